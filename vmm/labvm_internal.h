/* labvm_internal.h: the pieces of labvm that its own files share.
 *
 *   labvm_wire.c    plan and results as checked frames; the host's side of the result stream
 *   labvm_cpio.c    the initramfs
 *   labvm_cache.c   the kernel package, and what is missing
 *   labvm_qemu.c    QEMU's command line, and its process
 *   labvm.c         a plan from the first job to the last
 *   labvm_record.c  a record that came back
 *   labvm_init.c    the other side: process 1 of the machine
 *
 * Frames. The plan (a file of the initramfs) and the results (bytes written to a debug console port)
 * are sequences of frames: a head, then `bytes` bytes. What comes back was written by a machine that
 * may have gone wrong, so:
 *
 * 1. a frame with another magic, a size over LABVM_MAX_FRAME or another checksum ends the stream;
 * 2. jobs come in order: BEGIN i, any number of OUT i and ERRORS i, STATUS i, then job i + 1;
 * 3. a job's stdout and stderr are at most LABVM_MAX_OUTPUT bytes each;
 * 4. DONE comes after the last job, and nothing after it.
 */
#ifndef NB_VMM_LABVM_INTERNAL_H
#define NB_VMM_LABVM_INTERNAL_H

#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

#include "vmm/engine.h"
#include "vmm/labvm.h"

/* ---- frames (labvm_wire.c) ---- */
enum labvm_kind {
    /* of a plan */
    LABVM_JOB,   /* NUL-terminated words: paging, 2 MiB pages to set aside, argv */
    LABVM_SHELL, /* the same without argv: an interactive shell */
    LABVM_END,   /* the plan is complete */
    /* of results */
    LABVM_BEGIN,  /* the job starts */
    LABVM_OUT,    /* a piece of its stdout */
    LABVM_ERRORS, /* of its stderr */
    LABVM_STATUS, /* it ended: exit code, 0 to 255, 4 bytes */
    LABVM_NOTE,   /* init cannot go on: why */
    LABVM_DONE,   /* every job has ended */
    LABVM_KINDS
};

enum {
    LABVM_MAX_FRAME = 64 << 10, /* bytes after the head */
    LABVM_MAX_OUTPUT = 64 << 20,
    LABVM_MAX_JOBS = 4096,
    LABVM_MAX_WORDS = 256, /* of a job */
    LABVM_PORT = 0xe9, /* I/O port of QEMU's isa-debugcon: a byte written is a byte in the stream */
};

#define LABVM_INPUT "/input" /* in the initramfs: the shell's standard input, if no terminal */
enum { LABVM_MAX_INPUT = 16 << 20 };
#define LABVM_MAX_GUEST (16ull << 30) /* bytes of guest memory that a machine is made for */

struct labvm_head {
    uint32_t magic, kind, job, bytes;
    uint64_t check; /* XXH64 of what follows, seeded with that of the words above */
};

struct labvm_frame {
    enum labvm_kind kind;
    uint32_t job, bytes;
    const char *data; /* inside the buffer that was parsed */
};

struct labvm_head labvm_head(enum labvm_kind, uint32_t job, const void *data, uint32_t bytes);
/* The frame at p: bytes used, 0 when more are needed, -1 when it is none. */
ssize_t labvm_parse(const char *p, size_t n, struct labvm_frame *out);

/* Pages of hugetlbfs that a job's command needs: of 2 MiB ("2m"), which init sets aside before the
 * job, or of 1 GiB ("1g"), which only a kernel that boots can find. */
uint64_t labvm_huge_pages(char *const argv[], const char *size);
/* Does a job boot the kernel that the machine itself runs? */
bool labvm_needs_kernel(char *const argv[]);
/* Guest memory that a job's command asks for, in bytes; the default of `run` without --mem. */
uint64_t labvm_guest_mem(char *const argv[]);
/* Write a plan. False: a word list is too long. */
bool labvm_plan(FILE *, const struct labvm_job *, size_t njobs);

/* The host's side of a result stream. */
struct labvm_stream {
    struct labvm_job *jobs;
    size_t njobs;
    const struct labvm_config *cfg;
    size_t next;  /* jobs that have ended */
    bool running; /* jobs[next] has begun */
    bool done;
    char *pending; /* bytes of an unfinished frame */
    size_t npending;
    size_t nout, nerrors; /* of the running job */
};

/* Take n more bytes. False: the stream is broken, or init gave up; why in err. */
bool labvm_stream_feed(struct labvm_stream *, const char *p, size_t n, char *err, size_t errlen);
void labvm_stream_free(struct labvm_stream *);

/* What `run --engine kvm --json` printed, as a result (labvm_record.c). False: it is damaged. */
bool labvm_record(const char *text, struct result *, char *err, size_t errlen);

/* ---- initramfs (labvm_cpio.c): "newc" archive, as the kernel's early userspace reads it ---- */
struct cpio {
    FILE *out;
    uint64_t at;
    unsigned inode;
};
bool cpio_file(struct cpio *, const char *name, unsigned mode, const void *data, size_t bytes);
bool cpio_copy(struct cpio *, const char *name, unsigned mode, const char *path);
bool cpio_folder(struct cpio *, const char *name);
bool cpio_link(struct cpio *, const char *name, const char *target);
bool cpio_end(struct cpio *);

/* ---- what the machine is made of (labvm_cache.c) ---- */
struct labvm_parts {
    char qemu[512], nestbed[512]; /* programs: QEMU, the static nestbed */
    char kernel[512];             /* the package's folder in the cache */
};
/* Modules in the order they are loaded; those marked optional need not be in the package. */
struct labvm_module {
    const char *name;
    bool optional;
};
extern const struct labvm_module labvm_modules[];
extern const unsigned labvm_nmodules;
/* Those of a Linux that is a guest of ours (linux_guest.c), likewise. */
extern const struct labvm_module labvm_guest_modules[];
extern const unsigned labvm_nguest_modules;
#define LABVM_CACHE "/cache" /* in the machine, when a job needs such a guest: its kernel */
#define LABVM_AMD "kvm-amd"  /* loaded with npt= when a job needs it */
#define LABVM_PACKAGE "linux-image-cloud-amd64" /* Debian's; depends on the kernel of the day */

/* The static program, beside this one or in the data folder. */
bool labvm_find_static(char *where, size_t n);
/* Find all parts, fetching the kernel when it is not cached. NB_OK; NB_NODEVICE; NB_SIGINT, when
 * a signal that somebody handles ended the fetch. */
int labvm_parts(struct labvm_parts *, bool quiet, char *err, size_t errlen);
/* The cache's folder, absolute. False: no variable names one. */
bool labvm_cache_folder(char *path, size_t n);
/* The newest kernel in it whose files are whole. */
bool labvm_cached_kernel(char *folder, size_t n);
/* Fetch and unpack the kernel (labvm_fetch.c); codes of labvm_parts(). */
int labvm_fetch(bool quiet, char *err, size_t errlen);
/* A program in PATH. */
bool labvm_in_path(const char *tool, char *where, size_t n);

/* ---- signals that end us, held back until what we started has been put away (labvm_signals.c) ---- */
enum { LABVM_SIGNALS = 3 }; /* SIGINT, SIGTERM, SIGHUP */
struct labvm_signals {
    struct sigaction old[LABVM_SIGNALS];
    sigset_t mask; /* as it was: in force while we wait, with ppoll() */
};
void labvm_signals_catch(struct labvm_signals *);
bool labvm_signals_caught(void);
/* As before; one that was caught is sent again, and may end us now. */
void labvm_signals_release(struct labvm_signals *);

/* ---- QEMU (labvm_qemu.c) ---- */
struct labvm_qemu {
    pid_t pid;
    int results, console; /* to read from; console -1: it is the terminal */
};
struct labvm_machine {
    uint64_t mem;         /* bytes */
    uint64_t giant_pages; /* of 1 GiB, set aside at boot */
    int initrd;           /* a memory file */
    bool terminal;        /* its console is ours */
};
/* Start the machine. False: fork or pipe failed. */
bool labvm_qemu_start(struct labvm_qemu *, const struct labvm_parts *, const struct labvm_config *,
                      const struct labvm_machine *, char *err, size_t errlen);
/* How it ended by itself, as "exit code 1" or "signal 9"; it is given a second for that. */
void labvm_qemu_epitaph(struct labvm_qemu *, char *buf, size_t n);
/* Kill it if it runs, and close everything. */
void labvm_qemu_end(struct labvm_qemu *);

#endif
