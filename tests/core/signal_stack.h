// signal_stack.h - runs a function in a signal handler, on an alternate stack. SPDX-License-Identifier: MIT
#ifndef FLK_SIGNAL_STACK_H
#define FLK_SIGNAL_STACK_H

#include <alloca.h>
#include <signal.h>
#include <stdlib.h>

#include "base/platform.h"
#include "check.h"

static void (*run_on_signal_stack)(void);
static size_t bytes_left_to_it;

static void __attribute__((noinline)) run_it(void) { run_on_signal_stack(); }

// Uses up the stack until so many bytes are left.
static void signal_stack_handler(int number) {
    (void)number;
    size_t left = flk_platform_stack_left();
    CHECK(left > bytes_left_to_it);
    volatile char *used = alloca(left - bytes_left_to_it);
    used[0] = 1;
    run_it();
}

static inline void on_signal_stack(size_t bytes_left, void (*run)(void)) {
    size_t bytes = 65536;
    stack_t stack = {.ss_sp = malloc(bytes), .ss_size = bytes}, before;
    struct sigaction action = {.sa_handler = signal_stack_handler,
                               .sa_flags = SA_ONSTACK};
    run_on_signal_stack = run;
    bytes_left_to_it = bytes_left;
    CHECK(sigaltstack(&stack, &before) == 0);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    raise(SIGUSR2);
    CHECK(sigaltstack(&before, NULL) == 0);
    free(stack.ss_sp);
}

#endif
