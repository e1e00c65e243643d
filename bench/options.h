/* options.h: the options that commands share, as argp children.
 *
 *     struct options o;
 *     options_init(&o);
 *     static const struct argp_child children[] = {
 *         {&opt_program, 0, "What to run:", 1}, {&opt_machine, 0, "The machine:", 2},
 *         {&opt_output, 0, "Output:", 3}, {0}};
 *     argp_parse(&argp, argc, argv, 0, NULL, &o);   // argp.parser hands &o to each child on
 * ARGP_KEY_INIT options_machine(&o);                          // and options_program(&o),
 * options_output(&o)
 *
 * Parsing checks each value alone; options_machine() and options_program() check them together and
 * look names up. Anything wrong ends the program with one line that says what to do, exit 64.
 */
#ifndef NB_BENCH_OPTIONS_H
#define NB_BENCH_OPTIONS_H

#include <argp.h>

#include "bench/print.h"
#include "shadow_vs_ept/paging.h"
#include "vmm/balloon_vm.h"
#include "vmm/engine.h"
#include "workloads/workload.h"

enum { MAX_SETS = 64 };
enum out_format { OUT_TABLE, OUT_JSON, OUT_CSV };

struct options {
    /* the program */
    const char *engine_name, *workload_name, *trace;
    const char *balloon_plan;   /* --balloon, or NULL */
    const char *sets[MAX_SETS]; /* --set, in order */
    unsigned nsets;
    /* the machine; vm.cpu is loaded by options_machine(), vm.host_mem 0 = not given */
    const char *cpu_name;
    struct vm_config vm;
    unsigned given; /* bits GIVEN_*: which of them were on the command line */
    /* output */
    enum out_format format;
    const char *separator; /* OUT_CSV */
    bool json, quiet;
    enum when progress, color;
    /* looked up by options_program() */
    const struct engine *engine;
    const struct workload *workload; /* NULL: a trace */
    uint64_t params[MAX_PARAMS];
    uint64_t paging_params[MAX_PARAMS]; /* vm.paging_params points here */
    struct balloon_setup balloon;       /* vm.balloon points here when there is one */
};

enum {
    GIVEN_PAGING = 1,
    GIVEN_GUEST_PAGE = 2,
    GIVEN_HOST_PAGE = 4,
    GIVEN_LEVELS = 8,
    GIVEN_HOST_LEVELS = 16,
    GIVEN_SEED = 32,
    GIVEN_MEM = 64,
    GIVEN_CPU = 128,
    GIVEN_HOST_MEM = 256,
};

extern const struct argp opt_program; /* --engine --workload --set --trace */
extern const struct argp opt_sets;    /* --set alone, for commands without a program */
extern const struct argp opt_machine; /* --paging --cpu --guest-page ... --seed --numa */
extern const struct argp opt_real;    /* --timeout --reload-kvm: engines kvm and labvm */
extern const struct argp opt_output;  /* --json -x --quiet --progress --color */
extern const struct argp opt_json;    /* --json --color, for commands with no other form */

/* Defaults: model, ept, skx, 4k on 4k, 4 and 4 levels, 1G, 1 vCPU, seed 42. */
void options_init(struct options *);
/* Check the machine, load the CPU preset, choose host_mem when it was not given. */
void options_machine(struct options *);
/* Look up engine and workload, apply --set; needs one of --workload and --trace. */
void options_program(struct options *);
/* Apply --set: to the workload, the run and the strategy (options_program() does), or where no
 * program runs. */
void options_sets(struct options *);
void options_machine_sets(struct options *);
/* Apply --balloon; and a --set balloon.KEY=VALUE: false: it is none. */
void options_balloon(struct options *);
bool options_balloon_set(struct options *, const char *kv);
/* Settle the output format, colour and progress. */
void options_output(struct options *);

/* Does the hardware read a radix table of the host's, which --host-levels is about? */
bool paging_has_host_levels(const struct paging *);

/* Values of options, or the end with one line that says what is expected, exit 64. */
uint64_t option_number(const char *flag, const char *arg, uint64_t least, uint64_t most);
void option_page(const char *flag, const char *arg, enum page_mode *out);
void option_levels(const char *flag, const char *arg, unsigned *out);

/* "4k", "2m", "1g", "thp" and back. */
bool page_mode_parse(const char *s, enum page_mode *out);
const char *page_mode_name(enum page_mode);
/* Bytes of the largest page the mode may use. */
uint64_t page_mode_bytes(enum page_mode);

/* End with "unknown <kind> '<wrong>': did you mean '<x>'? (<kind>s: a, b, c)", exit 64. */
_Noreturn void die_unknown(const char *kind, const char *wrong, const void *start,
                           const void *stop);
/* Argp parser step for commands that take no argument: call on ARGP_KEY_ARG. */
_Noreturn void die_argument(const struct argp_state *, const char *arg);

#endif
