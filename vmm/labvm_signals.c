/* labvm_signals.c: SIGINT, SIGTERM and SIGHUP end us only after our children and files are gone.
 *
 * They are blocked except while waiting, so that none is lost between a look at `caught` and the
 * wait. Whoever caught one stops, puts away what it made, and releases: then the signal takes its
 * course, as if it had just come.
 */
#include <signal.h>

#include "base/base.h"
#include "vmm/labvm_internal.h"

static volatile sig_atomic_t caught;
static void on_signal(int sig) { caught = sig; }
static const int watched[LABVM_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

void labvm_signals_catch(struct labvm_signals *s)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigset_t block;
    sigemptyset(&sa.sa_mask);
    sigemptyset(&block);
    caught = 0;
    for (unsigned i = 0; i < LABVM_SIGNALS; i++) {
        sigaction(watched[i], NULL, &s->old[i]);
        if (s->old[i].sa_handler != SIG_IGN)
            sigaction(watched[i], &sa, NULL);
        sigaddset(&block, watched[i]);
    }
    sigprocmask(SIG_BLOCK, &block, &s->mask);
}

bool labvm_signals_caught(void) { return caught != 0; }

void labvm_signals_release(struct labvm_signals *s)
{
    int sig = caught;
    for (unsigned i = 0; i < LABVM_SIGNALS; i++)
        sigaction(watched[i], &s->old[i], NULL);
    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    if (sig)
        raise(sig);
}
