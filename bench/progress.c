/* progress.c: the progress line. */
#include "bench/progress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static bool enabled, on_tty, shown;
static double began, drawn;
static unsigned last_tenth;
static char waiting[120];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_init(enum when w, bool quiet)
{
    const char *term = getenv("TERM");
    on_tty = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    enabled = !quiet && (w == WHEN_ALWAYS || (w == WHEN_AUTO && on_tty && !getenv("CI")));
    began = now();
    drawn = 0;
    last_tenth = 0;
}

void progress_init_long(enum when w, bool quiet)
{
    progress_init(w == WHEN_AUTO && !isatty(STDERR_FILENO) ? WHEN_ALWAYS : w, quiet);
}

static char *duration(double s, char *buf, size_t n)
{
    unsigned t = (unsigned)(s + 0.5);
    if (t >= 3600)
        snprintf(buf, n, "%uh%02um", t / 3600, t / 60 % 60);
    else if (t >= 60)
        snprintf(buf, n, "%um%02us", t / 60, t % 60);
    else
        snprintf(buf, n, "%us", t);
    return buf;
}

void progress_step(unsigned done, unsigned total, const char *what)
{
    double t = now();
    char eta[32];
    unsigned tenth = total ? 10 * done / total : 0;
    if (!enabled || (on_tty ? t - drawn < 0.1 : tenth == last_tenth && done))
        return;
    duration(done ? (t - began) / done * (total - done) : 0, eta, sizeof eta);
    fprintf(stderr, "%s%u/%u  %s%s%s%s", on_tty ? "\r\033[K" : "", done, total, what,
            done ? "  eta " : "", done ? eta : "", on_tty ? "" : "\n");
    fflush(stderr);
    drawn = t;
    last_tenth = tenth;
    shown = on_tty;
}

/* Runs in a signal handler: only clock_gettime and write, and digits made by hand. */
static void tick(int sig)
{
    char line[160] = "\r\033[K", digits[12];
    unsigned s = (unsigned)(now() - began), n = 0;
    size_t len = 4, w = strlen(waiting);
    (void)sig;
    memcpy(line + len, waiting, w);
    len += w;
    do
        digits[n++] = (char)('0' + s % 10);
    while ((s /= 10) && n < sizeof digits);
    line[len++] = ' ';
    while (n)
        line[len++] = digits[--n];
    line[len++] = 's';
    if (write(STDERR_FILENO, line, len) > 0)
        shown = true;
}

static void set_timer(long seconds)
{
    struct itimerval it = {.it_interval.tv_sec = seconds, .it_value.tv_sec = seconds};
    setitimer(ITIMER_REAL, &it, NULL);
}

void progress_wait(const char *what)
{
    struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
    if (!enabled)
        return;
    snprintf(waiting, sizeof waiting, "%s", what);
    if (!on_tty) {
        fprintf(stderr, "%s\n", what);
        return;
    }
    began = now();
    sigemptyset(&sa.sa_mask);
    sigaction(SIGALRM, &sa, NULL);
    set_timer(1);
}

void progress_end(void)
{
    set_timer(0);
    if (shown)
        fputs("\r\033[K", stderr);
    shown = false;
}
