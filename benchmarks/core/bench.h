// bench.h - clock, options and rows of all programs of this folder.          SPDX-License-Identifier: MIT
// Use:     bench_begin(argc, argv); ... bench_row(...) for each figure ...; return bench_end();
// Options: --json FILE, --full (the long version of a run), --smallest (every row once), --rounds N (5 at least).
#ifndef FLK_BENCH_H
#define FLK_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BENCH_ROUNDS_MAX = 99 };

// The values of one measurement, one for each round.
typedef struct bench_values {
    double value[BENCH_ROUNDS_MAX];
    int count;
} bench_values;

void bench_begin(int argc, char **argv);
// Closes the JSON file; returns what main should.
int bench_end(void);
bool bench_is_full(void);
int bench_rounds(void);
// `smallest` with --smallest, else `usual`.
size_t bench_size(size_t usual, size_t smallest);

uint64_t bench_now(void);          // nanoseconds, steady
uint64_t bench_thread_time(void);  // nanoseconds of this thread's CPU time
uint64_t bench_rss(void);          // bytes of the process
void bench_pin(int cpu);           // this thread; -1 = any
uint64_t bench_random(uint64_t *state);

void bench_add(bench_values *values, double value);
double bench_median(const bench_values *values);

// One line of the table and one object of the JSON. `goal` is a name of
// benchmarks/README.md, or ""; a limit of 0 means that there is none.
void bench_row(const char *goal, const char *what, const char *unit,
               const bench_values *values, double limit);
void bench_row_one(const char *goal, const char *what, const char *unit,
                   double value, double limit);
void bench_missing(const char *goal, const char *what, const char *why);

#ifdef __cplusplus
}
#endif
#endif
