/* bench_export.h: the part of a run that is the same on every machine. */
#ifndef NB_BENCH_EXPORT_H
#define NB_BENCH_EXPORT_H

int bench_export(const char *from, const char *to);

#endif
