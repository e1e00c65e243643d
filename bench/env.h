/* env.h: the machine a run was made on, as env.json.
 *
 * What cannot be found out is null, never guessed. env_redact() takes out what names a person or a
 * place: host name, user, kernel command line, serial numbers, paths.
 */
#ifndef NB_BENCH_ENV_H
#define NB_BENCH_ENV_H

#include <jansson.h>

json_t *env_capture(void);
void env_redact(json_t *);
/* Load, steal time, context switches: what moves while a run lasts. */
json_t *env_activity(void);
/* 16 hex digits over the parts that do not change from minute to minute. */
void env_hash(const json_t *, char out[17]);
/* "2-D paging hardware: no (...)." from malloc. */
char *env_paging_line(const json_t *);

#endif
