/* test_backing_uffd.c: memory that is given back while a userfaultfd watches it, as when a guest is restored on demand.
 * link: base memmgr
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"
#include "memmgr/backing.h"

#define BYTES (64ull * 4096)
static const struct numa_policy anywhere = {NUMA_DEFAULT, 0};

/* The handler: a page that is missing gets a page of 'u' before the event of its removal, zeroes after it. Reading an
 * event lets the one who caused it go on, so what is known of it is under a lock from before that. */
struct handler {
    pthread_mutex_t lock;
    int fd, stop[2];
    uint64_t start, removed_from, removed_to;
    unsigned faults, removes;
    bool failed;
};

static bool inside(const struct handler *h, uint64_t a)
{
    return a >= h->removed_from && a < h->removed_to;
}

static void serve(struct handler *h, const struct uffd_msg *msg)
{
    static unsigned char u[4096];
    if (msg->event == UFFD_EVENT_REMOVE) {
        h->removes++;
        h->removed_from = msg->arg.remove.start;
        h->removed_to = msg->arg.remove.end;
        return;
    }
    if (msg->event != UFFD_EVENT_PAGEFAULT)
        return;
    uint64_t at = ALIGN_DOWN(msg->arg.pagefault.address, 4096);
    h->faults++;
    memset(u, 'u', sizeof u);
    struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)u, .len = 4096};
    struct uffdio_zeropage zero = {.range = {at, 4096}};
    h->failed |= inside(h, at) ? ioctl(h->fd, UFFDIO_ZEROPAGE, &zero) != 0
                               : ioctl(h->fd, UFFDIO_COPY, &copy) != 0;
}

static void *handle(void *arg)
{
    struct handler *h = arg;
    struct uffd_msg msg;
    struct pollfd p[2] = {{h->fd, POLLIN, 0}, {h->stop[0], POLLIN, 0}};
    while (poll(p, 2, -1) > 0 && !p[1].revents) {
        pthread_mutex_lock(&h->lock);
        if (read(h->fd, &msg, sizeof msg) == sizeof msg)
            serve(h, &msg);
        pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

/* What the handler knows after all it has read. */
static struct handler seen(struct handler *h)
{
    pthread_mutex_lock(&h->lock);
    struct handler copy = *h;
    pthread_mutex_unlock(&h->lock);
    return copy;
}

/* A userfaultfd over b, or false with the reason printed. */
static bool watch(struct handler *h, struct backing *b)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MISSING_SHMEM};
    struct uffdio_register r = {.range = {(uintptr_t)b->mem, b->bytes},
                                .mode = UFFDIO_REGISTER_MODE_MISSING};
    h->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (h->fd < 0 || ioctl(h->fd, UFFDIO_API, &api) != 0) {
        print_message(
            "skip: no userfaultfd with EVENT_REMOVE here: see vm.unprivileged_userfaultfd\n");
        return false;
    }
    assert_int_equal(ioctl(h->fd, UFFDIO_REGISTER, &r), 0);
    assert_int_equal(pipe(h->stop), 0);
    return true;
}

static void check_kind(enum backing_kind kind)
{
    char err[256];
    int code;
    pthread_t thread;
    uint64_t bytes;
    struct handler h = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1}, now;
    struct backing *b = backing_new(BYTES, kind, PAGES_4K, &anywhere, err, sizeof err, &code);
    assert_non_null(b);
    if (!watch(&h, b)) {
        if (h.fd >= 0)
            close(h.fd);
        backing_free(b);
        skip();
    }
    assert_int_equal(pthread_create(&thread, NULL, handle, &h), 0);
    assert_int_equal(b->mem[0], 'u'); /* not there yet: the handler brings it */
    assert_int_equal(b->mem[9 * 4096], 'u');
    b->mem[10 * 4096] = 1;
    assert_true(backing_discard(b, 8 * 4096, 4 * 4096));
    now = seen(&h);
    assert_int_equal(now.removes, 1); /* one call, one event, for the whole range */
    assert_int_equal(now.removed_from, (uintptr_t)b->mem + 8 * 4096);
    assert_int_equal(now.removed_to, (uintptr_t)b->mem + 12 * 4096);
    assert_true(backing_resident_in(b, 8 * 4096, 4 * 4096, &bytes));
    assert_int_equal(bytes, 0);
    assert_int_equal(b->mem[9 * 4096], 0); /* not what it was: the handler knows */
    assert_int_equal(b->mem[10 * 4096], 0);
    assert_int_equal(b->mem[0], 'u');
    assert_int_equal(b->mem[20 * 4096], 'u');
    assert_int_equal(seen(&h).faults, 6);
    assert_int_equal(write(h.stop[1], "", 1), 1);
    pthread_join(thread, NULL);
    assert_false(h.failed);
    close(h.fd);
    close(h.stop[0]);
    close(h.stop[1]);
    backing_free(b);
}

static void anonymous_memory_beside_a_userfaultfd(void **state)
{
    (void)state;
    check_kind(BACKING_ANON);
}

static void a_memfd_beside_a_userfaultfd(void **state)
{
    (void)state;
    check_kind(BACKING_MEMFD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anonymous_memory_beside_a_userfaultfd),
        cmocka_unit_test(a_memfd_beside_a_userfaultfd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
