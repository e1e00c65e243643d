/* script.c: the kernel's half of a script: operations come and what was seen goes many at a time.
 *
 * Numbers and words are ring 3's: none of them becomes an index without a look at it.
 */
#include "guest/image/image.h"

static uint64_t first, nops; /* operations [first, first + nops) are in *script() */
static uint64_t now;         /* asked for last */

static volatile struct nb_script *script(void) { return direct(SCRIPT_GPA); }

bool script_op(uint64_t number, uint64_t *kind, uint64_t *arg)
{
    if (number - first >= nops) {
        boot.value = number;
        call(NB_CALL_OP);
        first = number;
        nops = script()->nops;
    }
    now = number;
    if (!nops)
        return false;
    *kind = script()->op[now - first].kind;
    *arg = script()->op[now - first].arg[0];
    return true;
}

bool script_args(uint64_t k, uint64_t arg[2])
{
    if (now - first >= nops || k >= NB_OP_ARGS - 1)
        return false;
    arg[0] = script()->op[now - first].arg[k];
    arg[1] = script()->op[now - first].arg[k + 1];
    return true;
}

void script_saw(uint64_t tag, uint64_t a, uint64_t b)
{
    if (script()->nsaw == NB_SAWS)
        call(NB_CALL_SAW);
    unsigned i = script()->nsaw++;
    script()->saw[i].op = (uint32_t)now;
    script()->saw[i].tag = (uint32_t)tag;
    script()->saw[i].a = a;
    script()->saw[i].b = b;
}
