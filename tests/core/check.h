// check.h - the smallest test frame: CHECK, a list of tests, a count.        SPDX-License-Identifier: MIT
// Use:     static void test_x(void) {...}   int main(void) { RUN(test_x); return DONE(); }
// Fails:   the first CHECK that does not hold prints file:line and its text, and exits with 1.
#ifndef FLK_CHECK_H
#define FLK_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_passed;

#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) {                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
                    #condition);                                       \
            exit(1);                                                   \
        }                                                              \
    } while (0)

#define CHECK_TEXT(expected, actual)                                       \
    do {                                                                   \
        const char *check_actual = (actual);                               \
        if (strcmp((expected), check_actual) != 0) {                       \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, \
                    __LINE__, #actual, check_actual, (expected));          \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

#define RUN(test)       \
    do {                \
        test();         \
        check_passed++; \
    } while (0)

#define DONE() (printf("%d passed\n", check_passed), 0)

#endif
