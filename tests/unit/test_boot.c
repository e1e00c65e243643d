/* test_boot.c: multiboot images: what is accepted, what is refused, what the guest finds in its
 * memory; and small images run on KVM (skipped where there is none).
 * link: base memmgr vmm/kvm_host vmm/kvm_vm vmm/kvm_stats vmm/kvm_run vmm/kvm_autopsy
 * vmm/multiboot vmm/linux_boot vmm/acpi vmm/boot_board vmm/boot balloon vmm/virtio_mmio
 * vmm/boot_balloon vmm/balloon_plan
 */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <cmocka.h>

#include "base/base.h"
#include "base/rng.h"
#include "vmm/boot.h"
#include "vmm/boot_board.h"
#include "vmm/multiboot.h"

#define LOAD_AT 0x100000u
enum { HEADER_AT = 0x80, CODE_AT = 0x90, FILE_BYTES = 0x200, BSS = 0x1000, LOW = 2 << 20 };

static char err[512];

/* A correct image: one segment holding the whole file, then zeroes; its code at CODE_AT. */
struct image {
    Elf32_Ehdr e;
    Elf32_Phdr p;
    unsigned char pad[HEADER_AT - sizeof(Elf32_Ehdr) - sizeof(Elf32_Phdr)];
    uint32_t header[3];
    unsigned char gap[4], code[FILE_BYTES - CODE_AT];
};
_Static_assert(sizeof(struct image) == FILE_BYTES, "image_sane");

static struct image correct(void)
{
    return (struct image){
        .e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
              .e_type = ET_EXEC,
              .e_machine = EM_386,
              .e_version = EV_CURRENT,
              .e_entry = LOAD_AT + CODE_AT,
              .e_phoff = sizeof(Elf32_Ehdr),
              .e_ehsize = sizeof(Elf32_Ehdr),
              .e_phentsize = sizeof(Elf32_Phdr),
              .e_phnum = 1},
        .p = {.p_type = PT_LOAD,
              .p_paddr = LOAD_AT,
              .p_filesz = FILE_BYTES,
              .p_memsz = FILE_BYTES + BSS},
        .header = {0x1badb002, 0, -0x1badb002u},
    };
}

static int parse(const struct image *i, struct multiboot_image *out)
{
    err[0] = 0;
    return multiboot_parse(i, sizeof *i, out, err, sizeof err);
}

static void a_correct_image_is_accepted(void **state)
{
    (void)state;
    struct image i = correct();
    struct multiboot_image m;
    assert_int_equal(parse(&i, &m), NB_OK);
    assert_int_equal(m.entry, LOAD_AT + CODE_AT);
    assert_int_equal(m.nsegments, 1);
    assert_int_equal(m.end, LOAD_AT + FILE_BYTES + BSS);
}

/* Each change of one field, and a word of the sentence that refuses it. */
#define WRONG(change, word)                                              \
    do {                                                                 \
        struct image i = correct();                                      \
        struct multiboot_image m;                                        \
        change;                                                          \
        assert_int_equal(parse(&i, &m), NB_DATAERR);                     \
        if (!strstr(err, word))                                          \
            fail_msg("%s: said '%s', without '%s'", #change, err, word); \
    } while (0)

static void wrong_images_are_refused(void **state)
{
    (void)state;
    WRONG(i.e.e_ident[1] = 'X', "not an ELF");
    WRONG(i.e.e_ident[EI_CLASS] = ELFCLASS64, "ELF32");
    WRONG(i.e.e_machine = EM_X86_64, "i386");
    WRONG(i.e.e_type = ET_REL, "executable");
    WRONG(i.e.e_phentsize = 56, "program headers");
    WRONG(i.e.e_phnum = 0, "program headers");
    WRONG(i.e.e_phnum = 60000, "cut short");
    WRONG(i.e.e_phoff = 0xffffffff, "cut short");
    WRONG(i.e.e_phoff = FILE_BYTES - 31, "cut short");
    WRONG(i.e.e_entry = 0, "entry");
    WRONG(i.e.e_entry = LOAD_AT + FILE_BYTES + BSS, "entry");
    WRONG(i.p.p_type = PT_NOTE, "entry");
    WRONG(i.p.p_filesz = FILE_BYTES + BSS + 1, "more bytes");
    WRONG(i.p.p_offset = 1, "cut short");
    WRONG(i.p.p_offset = 0xfffffff0, "cut short");
    WRONG(i.p.p_paddr = 0xfffff000, "3 GiB");
    WRONG(i.p.p_memsz = 0xffffffff, "3 GiB");
    WRONG(i.p.p_paddr = 0xbffff000, "3 GiB");
    WRONG(i.p.p_memsz = 0, "more bytes");
    WRONG((i.p.p_memsz = i.p.p_filesz = 0), "entry");
    WRONG(i.p.p_paddr = 0x6fff, "0x7000");
    WRONG(i.p.p_paddr = 0x7fff, "0x7000");
    WRONG(i.header[0]++, "multiboot");
    WRONG(i.header[2]++, "multiboot");
    WRONG((i.header[1] = 4, i.header[2] -= 4), "video");
    WRONG((i.header[1] = 1 << 16, i.header[2] -= 1 << 16), "flag 16");
}

/* Cut anywhere: only the whole file is an image, and no byte outside is read. */
static void cut_images_are_refused(void **state)
{
    (void)state;
    struct image i = correct();
    struct multiboot_image m;
    for (size_t n = 1; n < sizeof i; n++) {
        void *part = malloc(n); /* exactly that long: the sanitizer sees a byte more */
        memcpy(part, &i, n);
        assert_int_equal(multiboot_parse(part, n, &m, err, sizeof err), NB_DATAERR);
        free(part);
    }
}

static int place(const struct multiboot_image *m, const void *file, unsigned char *low,
                 const char *cmdline, const char *env)
{
    struct multiboot_machine told = {.low_bytes = LOW,
                                     .high_bytes = 1 << 30,
                                     .cmdline = cmdline,
                                     .env = env,
                                     .env_bytes = env ? strlen(env) : 0};
    return multiboot_place(m, file, &told, low, err, sizeof err);
}

/* Thousands of damaged images: refused, or laid out inside the guest's memory. */
static void damaged_images_do_no_harm(void **state)
{
    (void)state;
    static const unsigned char extreme[] = {0, 1, 0x7f, 0x80, 0xff};
    unsigned char *low = malloc(LOW);
    struct rng r;
    unsigned accepted = 0;
    rng_seed(&r, 1);
    for (unsigned n = 0; n < 20000; n++) {
        struct image i = correct();
        struct multiboot_image m;
        for (unsigned k = 0; k <= rng_below(&r, 4); k++)
            ((unsigned char *)&i)[rng_below(&r, CODE_AT)] =
                rng_below(&r, 2) ? extreme[rng_below(&r, 5)] : (unsigned char)rng_below(&r, 256);
        int rc = parse(&i, &m);
        assert_true(rc == NB_OK || (rc == NB_DATAERR && err[0]));
        if (rc == NB_OK) {
            rc = place(&m, &i, low, "x", "A=1\n");
            assert_true(rc == NB_OK || rc == NB_USAGE);
            accepted += rc == NB_OK;
        }
    }
    print_message("%u of 20000 still ran\n", accepted);
    assert_true(accepted > 100 && accepted < 19000);
    free(low);
}

static uint32_t word(const unsigned char *low, uint32_t at)
{
    uint32_t v;
    memcpy(&v, low + at, 4);
    return v;
}

static void the_guest_finds_what_it_expects(void **state)
{
    (void)state;
    struct image i = correct();
    struct multiboot_image m;
    unsigned char *low = malloc(LOW);
    memset(low, 0xaa, LOW);
    assert_int_equal(parse(&i, &m), NB_OK);
    assert_int_equal(place(&m, &i, low, "test.flat one two", "A=1\nB=2\n"), NB_OK);
    assert_memory_equal(low + LOAD_AT, &i, FILE_BYTES);
    for (unsigned k = 0; k < BSS; k++)
        assert_int_equal(low[LOAD_AT + FILE_BYTES + k], 0);
    assert_int_equal(low[LOAD_AT + FILE_BYTES + BSS], 0xaa);

    const uint32_t info = MULTIBOOT_INFO_GPA;
    assert_int_equal(word(low, info), 1 | 4 | 8 | 64);
    assert_int_equal(word(low, info + 8), (LOW - (1 << 20)) / 1024);
    assert_string_equal((char *)low + word(low, info + 16), "test.flat one two");
    assert_int_equal(word(low, info + 20), 1);
    uint32_t module = word(low, info + 24), start = word(low, module);
    assert_int_equal(start % 4096, 0);
    assert_true(start >= m.end);
    assert_int_equal(word(low, module + 4) - start, 8);
    assert_memory_equal(low + start, "A=1\nB=2\n", 8);
    uint32_t map = word(low, info + 48);
    assert_int_equal(word(low, info + 44), 48);
    assert_int_equal(word(low, map), 20);
    assert_int_equal(word(low, map + 12), LOW);   /* length; base is 0 */
    assert_int_equal(word(low, map + 24 + 8), 1); /* base: 4 GiB */
    assert_int_equal(low[word(low, 4 * 0x73)], 0xcf);
    free(low);
}

static void what_does_not_fit_is_the_users_to_change(void **state)
{
    (void)state;
    struct image i = correct();
    struct multiboot_image m;
    unsigned char *low = malloc(LOW);
    i.p.p_memsz = LOW;
    assert_int_equal(parse(&i, &m), NB_OK);
    assert_int_equal(place(&m, &i, low, "x", NULL), NB_USAGE);
    assert_non_null(strstr(err, "--mem"));
    i.p.p_memsz = LOW - LOAD_AT; /* to the last byte, but no room for the environment */
    assert_int_equal(parse(&i, &m), NB_OK);
    assert_int_equal(place(&m, &i, low, "x", NULL), NB_OK);
    assert_int_equal(place(&m, &i, low, "x", "A=1\n"), NB_USAGE);
    char line[MULTIBOOT_MAX_CMDLINE + 1];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = 0;
    assert_int_equal(place(&m, &i, low, line, NULL), NB_USAGE);
    line[sizeof line - 2] = 0;
    assert_int_equal(place(&m, &i, low, line, NULL), NB_OK);
    free(low);
}

/* ---- devices ---- */
/* A board over memory alone: what devices do with a guest's requests needs no KVM. */
static struct board *board_alone(struct kvm_vm *vm)
{
    int code;
    *vm = (struct kvm_vm){.fd = -1, .nvcpus = 3, .nslots = 1};
    vm->slot_mem[0] = backing_new(1 << 20, BACKING_ANON, PAGES_4K,
                                  &(struct numa_policy){NUMA_DEFAULT, 0}, err, sizeof err, &code);
    assert_non_null(vm->slot_mem[0]);
    return board_new(vm, NULL, false);
}

/* One port access of `count` values through the run page; what was read is in `data`. */
static bool port(struct board *b, struct kvm_vcpu *v, bool in, unsigned at, unsigned size,
                 unsigned count, uint32_t value)
{
    unsigned char *data = (unsigned char *)v->run + 4096;
    v->run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
    v->run->io.port = (uint16_t)at;
    v->run->io.size = (uint8_t)size;
    v->run->io.count = count;
    v->run->io.data_offset = 4096;
    for (unsigned i = 0; i < count; i++)
        memcpy(data + i * size, &value, size);
    return board_io(b, v);
}

/* Any port, width and count, any MMIO address: no byte outside, and only two ways to end. */
static void devices_survive_any_request(void **state)
{
    (void)state;
    static const uint16_t known[] = {0x3f8, 0xf4, 0x510, 0xe0, 0xe4, 0xe8, 0x2000, 0x8900, 0xcf8};
    struct kvm_vm vm;
    struct kvm_vcpu v = {.run = malloc(8192)};
    struct board *b = board_alone(&vm);
    struct rng r;
    rng_seed(&r, 2);
    memset(v.run, 0, 8192);
    for (unsigned n = 0; n < 100000; n++) {
        unsigned size = 1u << rng_below(&r, 3), count = 1 + (unsigned)rng_below(&r, 4096 / size);
        unsigned at = rng_below(&r, 4) ? known[rng_below(&r, ARRAY_SIZE(known))] +
                                             (unsigned)rng_below(&r, 32) - 4
                                       : (unsigned)rng_below(&r, 65536);
        bool exits = at >= 0xf4 && at <= 0xf7;
        if (exits || rng_below(&r, 8))
            count = 1;
        bool went_on = port(b, &v, exits || rng_below(&r, 2), at, size, count,
                            (uint32_t)rng_below(&r, UINT32_MAX));
        assert_true(went_on);
        v.run->mmio.phys_addr = 0xff000000 + rng_below(&r, 0x10100) - 0x80;
        v.run->mmio.len = 1u << rng_below(&r, 4);
        v.run->mmio.is_write = (uint8_t)rng_below(&r, 2);
        assert_true(board_mmio(b, &v));
    }
    assert_true(b->nconsole > 0);
    board_free(b);
    backing_free(vm.slot_mem[0]);
    free(v.run);
}

static uint32_t read_port(struct board *b, struct kvm_vcpu *v, unsigned at, unsigned size)
{
    uint32_t value = 0;
    assert_true(port(b, v, true, at, size, 1, 0));
    memcpy(&value, (unsigned char *)v->run + 4096, size);
    return value;
}

static void devices_keep_what_they_promise(void **state)
{
    (void)state;
    struct kvm_vm vm;
    struct kvm_vcpu v = {.run = malloc(8192)};
    struct board *b = board_alone(&vm);
    /* fw_cfg: memory bytes, CPUs, then nothing */
    port(b, &v, false, 0x510, 2, 1, 3);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 8; i++)
        bytes |= (uint64_t)read_port(b, &v, 0x511, 1) << 8 * i;
    assert_int_equal(bytes, 1 << 20);
    assert_int_equal(read_port(b, &v, 0x511, 1), 0);
    port(b, &v, false, 0x510, 2, 1, 5);
    assert_int_equal(read_port(b, &v, 0x511, 1), 3);
    port(b, &v, false, 0x510, 2, 1, 0x11);
    assert_int_equal(read_port(b, &v, 0x511, 1), 0);
    /* the two latches are apart */
    port(b, &v, false, 0xe0, 4, 1, 0x01020304);
    port(b, &v, false, 0xe8, 4, 1, 0x11121314);
    assert_int_equal(read_port(b, &v, 0xe3, 1), 0x01);
    assert_int_equal(read_port(b, &v, 0xe8, 2), 0x1314);
    assert_int_equal(read_port(b, &v, 0xcfc, 4), 0xffffffff);
    assert_int_equal(read_port(b, &v, 0x1234, 1), 0xff);
    /* "Shutdown", letter by letter, and only so */
    static const char letters[] = "ShutShutdow";
    for (unsigned i = 0; i < sizeof letters - 1; i++)
        assert_true(port(b, &v, false, 0x8900, 1, 1, (unsigned char)letters[i]));
    assert_false(b->ended);
    static const char word_of_end[] = "Shutdown";
    bool went_on = true;
    for (unsigned i = 0; i < 8; i++)
        went_on = port(b, &v, false, 0x8900, 1, 1, (unsigned char)word_of_end[i]);
    assert_false(went_on);
    assert_int_equal(b->code, 0);
    board_free(b);
    backing_free(vm.slot_mem[0]);
    free(v.run);
}

/* The guest's bytes as they are, but on a terminal, and kept: there it is text and nothing else. */
static void text_for_a_terminal_is_text(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {'a', '\n', 0x1b, '[', '2', 'J', 0x9b, 0xc3, 0, '\t', 'z'};
    for (int plain = 0; plain < 2; plain++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        struct kvm_vm vm = {.fd = -1};
        struct kvm_vcpu v = {.run = malloc(8192)};
        struct board *b = board_new(&vm, f, plain);
        memset(v.run, 0, 8192);
        for (unsigned i = 0; i < sizeof bytes; i++)
            port(b, &v, false, 0x3f8, 1, 1, bytes[i]);
        fclose(f);
        assert_int_equal(n, sizeof bytes);
        assert_memory_equal(text, plain ? "a\n?[2J???\tz" : (const char *)bytes, n);
        board_free(b);
        free(v.run);
        free(text);
    }
}

struct writer {
    unsigned char *at;
    atomic_bool stop;
    atomic_uint rounds;
};

static void *write_on(void *arg)
{
    struct writer *w = arg;
    while (!atomic_load(&w->stop)) {
        *(volatile unsigned char *)w->at = 1;
        atomic_fetch_add(&w->rounds, 1);
    }
    return NULL;
}

/* Another vCPU uses the page that one has flushed: its accesses go on. */
static void a_flush_takes_no_right_away(void **state)
{
    (void)state;
    struct kvm_vm vm;
    struct kvm_vcpu v = {.run = malloc(8192)};
    struct board *b = board_alone(&vm);
    struct writer w = {.at = vm.slot_mem[0]->mem + 0x5000};
    pthread_t t;
    memset(v.run, 0, 8192);
    assert_int_equal(pthread_create(&t, NULL, write_on, &w), 0);
    for (unsigned i = 0; i < 20000 || atomic_load(&w.rounds) < 20000; i++)
        assert_true(port(b, &v, false, 0xe4, 4, 1, 0x5000));
    atomic_store(&w.stop, true);
    pthread_join(t, NULL);
    assert_true(port(b, &v, false, 0xe4, 4, 1, 0xfffff000)); /* no memory there */
    board_free(b);
    backing_free(vm.slot_mem[0]);
    free(v.run);
}

/* ---- on KVM ---- */
/* 64-bit ring 3, which may use ports, the first 2 MiB mapped one to one: every KVM runs it on the
 * processor, through its own translations. */
static void enter_ring3(struct kvm_vcpu *v, uint32_t rip)
{
    enum { TABLE = 7, PAGE_OF_2M = 0x87 }; /* present, writable, user's */
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = rip, .rsp = 0x7000, .rflags = 2 | 3 << 12};
    uint64_t *root = kvm_vm_ptr(v->vm, 0x1000, 0x3000);
    root[0] = 0x2000 | TABLE;
    root[512] = 0x3000 | TABLE;
    root[1024] = PAGE_OF_2M;
    assert_true(kvm_vcpu_long_mode(v, rip, 0x7000, 0x1000, 4, err, sizeof err));
    assert_int_equal(ioctl(v->fd, KVM_GET_SREGS, &s), 0);
    s.cs.dpl = s.ss.dpl = s.ds.dpl = s.es.dpl = s.fs.dpl = s.gs.dpl = 3;
    s.cs.selector = 0x0b;
    s.ss.selector = s.ds.selector = s.es.selector = s.fs.selector = s.gs.selector = 0x13;
    assert_int_equal(ioctl(v->fd, KVM_SET_SREGS, &s), 0);
    assert_int_equal(ioctl(v->fd, KVM_SET_REGS, &r), 0);
}

static uint64_t pages_fetched(const struct kvm_vm *vm)
{
    static struct kvm_snapshot s;
    assert_true(kvm_vm_snapshot(vm, &s));
    for (unsigned i = 0; i < vm->stats.n; i++)
        if (strcmp(vm->stats.stat[i].name, "pf_fixed") == 0)
            return s.v[vm->stats.stat[i].first];
    fail_msg("no pf_fixed");
    return 0;
}

/* Each flush makes KVM fetch the page once more. */
static void a_flushed_page_is_fetched_again(void **state)
{
    (void)state;
    static const unsigned char code[] = {0xc6, 0x04, 0x25, 0x00, 0x00,
                                         0x10, 0x00, 0x01, /* again: movb $1, 0x100000 */
                                         0xb8, 0x00, 0x00, 0x10, 0x00, /* mov $0x100000, %eax */
                                         0xe7, 0xe4, 0xeb, 0xef}; /* out %eax, $0xe4; jmp again */
    enum { ROUNDS = 50 };
    struct kvm_vm *vm = kvm_vm_new(err, sizeof err);
    int rc;
    if (!vm) {
        print_message("skip: %s\n", err);
        skip();
    }
    struct backing *mem = backing_new(4 << 20, BACKING_ANON, PAGES_4K,
                                      &(struct numa_policy){NUMA_DEFAULT, 0}, err, sizeof err, &rc);
    assert_non_null(mem);
    assert_true(kvm_vm_add_memory(vm, 0, mem, err, sizeof err));
    struct kvm_vcpu *v = kvm_vm_add_vcpu(vm, err, sizeof err);
    assert_non_null(v);
    struct board *b = board_new(vm, NULL, false);
    uint64_t fetched = 0, before = 0;
    memcpy(mem->mem + 0x8000, code, sizeof code);
    enter_ring3(v, 0x8000);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(kvm_vcpu_step(v), KVM_STEP_EXIT);
        assert_int_equal(v->run->exit_reason, KVM_EXIT_IO);
        before = i == 0 && vm->stats.n ? pages_fetched(vm) : before;
        assert_true(board_io(b, v));
    }
    if (vm->stats.n) {
        fetched = pages_fetched(vm) - before;
        assert_true(fetched >= ROUNDS - 1); /* more when the host moves pages meanwhile */
    } else
        print_message("not counted: this kernel has no KVM_GET_STATS_FD\n");
    board_free(b);
    kvm_vm_free(vm);
    backing_free(mem);
}

/* Run this code; false after having said why there is no KVM. */
static bool run(const void *code, size_t n, unsigned cpus, double timeout, struct boot_result *r)
{
    struct image i = correct();
    memcpy(i.code, code, n);
    struct boot_config c = {.cmdline = "test",
                            .image = &i,
                            .image_bytes = sizeof i,
                            .mem = 4 << 20,
                            .cpus = cpus,
                            .timeout = timeout};
    int rc = boot_run(&c, r, err, sizeof err);
    if (rc == NB_OK)
        return true;
    assert_int_equal(rc, NB_NODEVICE);
    print_message("skip: %s\n", err);
    return false;
}

static void an_exit_code_and_text_come_back(void **state)
{
    (void)state;
    static const unsigned char code[] = {0x66, 0xba, 0xf8, 0x03,       /* mov $0x3f8, %dx */
                                         0xb0, 'o',  0xee,             /* mov 'o', %al; out */
                                         0xb0, 0x01, 0xee,             /* an unprintable one */
                                         0xb8, 0x26, 0x00, 0x00, 0x00, /* mov $38, %eax */
                                         0xe7, 0xf4, 0xf4};            /* out %eax, $0xf4; hlt */
    static struct boot_result r;
    if (!run(code, sizeof code, 1, 10, &r))
        skip();
    assert_int_equal(r.end, BOOT_EXITED);
    assert_int_equal(r.code, 38);
    assert_string_equal(r.console, "o?");
    assert_false(r.console_cut);
    assert_string_equal(r.detail, "");
    assert_int_equal(r.user_exits[KVM_EXIT_IO], 3);
    assert_true(r.start_seconds > 0 && r.wall_seconds > 0);
    boot_result_free(&r);
}

static void a_crash_names_its_place(void **state)
{
    (void)state;
    static const unsigned char code[] = {0x90, 0x0f, 0x0b}; /* nop; ud2: no interrupt table */
    static struct boot_result r;
    if (!run(code, sizeof code, 2, 10, &r))
        skip();
    print_message("%s\n", r.detail);
    assert_int_equal(r.end, BOOT_CRASHED);
    assert_non_null(strstr(r.detail, "CPU 0: triple fault"));
    boot_result_free(&r);
}

/* All CPUs are stopped: one that loops, and one that never started. */
static void time_runs_out(void **state)
{
    (void)state;
    static const unsigned char code[] = {0xeb, 0xfe};
    static struct boot_result r;
    if (!run(code, sizeof code, 2, 0.1, &r))
        skip();
    assert_int_equal(r.end, BOOT_TIMEOUT);
    assert_non_null(strstr(r.detail, "0.1 seconds"));
    assert_true(r.wall_seconds >= 0.1 && r.wall_seconds < 5);
    boot_result_free(&r);
}

static void time_runs_out_for_a_halted_guest(void **state)
{
    (void)state;
    static const unsigned char code[] = {0xf4, 0xeb, 0xfd}; /* hlt; jmp back */
    static struct boot_result r;
    if (!run(code, sizeof code, 1, 0.05, &r))
        skip();
    assert_int_equal(r.end, BOOT_TIMEOUT);
    boot_result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_correct_image_is_accepted),
        cmocka_unit_test(wrong_images_are_refused),
        cmocka_unit_test(cut_images_are_refused),
        cmocka_unit_test(damaged_images_do_no_harm),
        cmocka_unit_test(the_guest_finds_what_it_expects),
        cmocka_unit_test(what_does_not_fit_is_the_users_to_change),
        cmocka_unit_test(devices_survive_any_request),
        cmocka_unit_test(devices_keep_what_they_promise),
        cmocka_unit_test(text_for_a_terminal_is_text),
        cmocka_unit_test(a_flush_takes_no_right_away),
        cmocka_unit_test(a_flushed_page_is_fetched_again),
        cmocka_unit_test(an_exit_code_and_text_come_back),
        cmocka_unit_test(a_crash_names_its_place),
        cmocka_unit_test(time_runs_out),
        cmocka_unit_test(time_runs_out_for_a_halted_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
