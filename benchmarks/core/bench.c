// bench.c - see bench.h.                                                     SPDX-License-Identifier: MIT
#include "bench.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    FILE *json;
    bool full, smallest, has_rows;
    int rounds;
} bench = {.rounds = 7};

static void usage(const char *program) {
    fprintf(stderr,
            "usage: %s [--json FILE] [--full | --smallest] [--rounds N]\n",
            program);
    exit(2);
}

void bench_begin(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--full") == 0) {
            bench.full = true;
        } else if (strcmp(argv[i], "--smallest") == 0) {
            bench.smallest = true;
        } else if (strcmp(argv[i], "--rounds") == 0 && more) {
            bench.rounds = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--json") == 0 && more) {
            bench.json = fopen(argv[++i], "w");
            if (!bench.json)
                usage(argv[0]);
        } else {
            usage(argv[0]);
        }
    }
    if (bench.rounds < 5 || bench.rounds > BENCH_ROUNDS_MAX)
        usage(argv[0]);
    if (bench.smallest)
        bench.rounds = 1;
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    if (bench.json)
        fprintf(bench.json,
                "{\"program\": \"%s\", \"rounds\": %d, "
                "\"full\": %s, \"rows\": [",
                name, bench.rounds, bench.full ? "true" : "false");
    printf("%s\n%-4s %-50s %9s %17s %8s\n", name, "goal", "what", "median",
           "min .. max", "limit");
}

int bench_end(void) {
    if (bench.json) {
        fprintf(bench.json, "]}\n");
        fclose(bench.json);
    }
    return 0;
}

bool bench_is_full(void) { return bench.full; }
int bench_rounds(void) { return bench.rounds; }
size_t bench_size(size_t usual, size_t smallest) {
    return bench.smallest ? smallest : usual;
}

// --- measuring ---------------------------------------------------------
static uint64_t clock_read(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t bench_now(void) { return clock_read(CLOCK_MONOTONIC); }

uint64_t bench_thread_time(void) { return clock_read(CLOCK_THREAD_CPUTIME_ID); }

uint64_t bench_rss(void) {
    unsigned long long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm && fscanf(statm, "%*u %llu", &pages) != 1)
        pages = 0;
    if (statm)
        fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void bench_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (cpu < 0 || i == cpu)
            CPU_SET(i, &set);
    sched_setaffinity(0, sizeof set, &set);
}

uint64_t bench_random(uint64_t *state) {
    uint64_t mixed = *state += UINT64_C(0x9E3779B97F4A7C15);  // splitmix64
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ mixed >> 31;
}

// --- rows --------------------------------------------------------------
void bench_add(bench_values *values, double value) {
    if (values->count < BENCH_ROUNDS_MAX)
        values->value[values->count++] = value;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bench_values sorted(const bench_values *values) {
    bench_values copy = *values;
    qsort(copy.value, (size_t)copy.count, sizeof copy.value[0], compare);
    return copy;
}

double bench_median(const bench_values *values) {
    bench_values s = sorted(values);
    int half = s.count / 2;
    return s.count % 2 ? s.value[half]
                       : (s.value[half - 1] + s.value[half]) / 2;
}

static void json_row(const char *goal, const char *what, const char *unit) {
    if (!bench.json)
        return;
    fprintf(bench.json,
            "%s\n{\"goal\": \"%s\", \"what\": \"%s\", "
            "\"unit\": \"%s\"",
            bench.has_rows ? "," : "", goal, what, unit);
    bench.has_rows = true;
}

void bench_row(const char *goal, const char *what, const char *unit,
               const bench_values *values, double limit) {
    bench_values s = sorted(values);
    double median = bench_median(values);
    double low = s.value[0], high = s.value[s.count - 1];
    printf("%-4s %-50s %9.2f %8.2f %8.2f ", goal, what, median, low, high);
    if (limit > 0)
        printf("%8.2f %s%s\n", limit, unit, median <= limit ? "" : " OVER");
    else
        printf("%8s %s\n", "", unit);
    fflush(stdout);
    json_row(goal, what, unit);
    if (!bench.json)
        return;
    fprintf(bench.json,
            ", \"median\": %.6g, \"min\": %.6g, \"max\": %.6g, "
            "\"n\": %d, \"limit\": ",
            median, low, high, s.count);
    if (limit > 0)
        fprintf(bench.json, "%.6g}", limit);
    else
        fprintf(bench.json, "null}");
}

void bench_row_one(const char *goal, const char *what, const char *unit,
                   double value, double limit) {
    bench_values values = {{value}, 1};
    bench_row(goal, what, unit, &values, limit);
}

void bench_missing(const char *goal, const char *what, const char *why) {
    printf("%-4s %-50s   missing: %s\n", goal, what, why);
    json_row(goal, what, "");
    if (bench.json)
        fprintf(bench.json, ", \"missing\": \"%s\"}", why);
}
