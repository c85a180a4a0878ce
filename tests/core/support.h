// support.h - what tests of the core share: a started tracker, figures, threads, children.  SPDX-License-Identifier: MIT
#ifndef FLK_SUPPORT_H
#define FLK_SUPPORT_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/api.h"
#include "api/snapshot.h"
#include "base/arena.h"
#include "base/platform.h"
#include "base/sequence.h"
#include "check.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/modules.h"
#include "paths/pyframe.h"
#include "paths/sites.h"
#include "paths/thread.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/registry.h"
#include "registry/scope.h"
#include "stub_python.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/heap.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/path_counts.h"
#include "tracker/quarantine.h"
#include "tracker/tracker.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

// Valgrind, or another tool that makes everything 30 times slower.
static inline bool is_slow_tool(void) { return getenv("FLK_SLOW_TOOL"); }

static inline int few_or_many(int valgrind, int sanitized, int plain) {
    return is_slow_tool() ? valgrind : IS_SANITIZED ? sanitized : plain;
}

static inline void start(void) {
    CHECK(flk_start("/own/") == NULL);
    CHECK(flk_is_ready());
    flk_gate_set(1);
}

static inline uint16_t type_of(const char *name) {
    uint16_t type = flk_type_intern(name, "calloc", "free");
    CHECK(type != 0);
    return type;
}

static inline flk_self self_figures(void) {
    flk_self self;
    flk_self_figures(&self);
    return self;
}

static inline flk_figures scope_figures(uint32_t scope) {
    flk_figures figures;
    flk_scope_figures(scope, &figures);
    return figures;
}

static inline flk_figures type_figures(uint16_t type) {
    flk_figures figures;
    flk_type_figures(type, &figures);
    return figures;
}

static inline uint64_t live_in(uint32_t scope) {
    flk_figures f = scope_figures(scope);
    return f.allocations - f.frees;
}

static inline uint64_t live_bytes_in(uint32_t scope) {
    flk_figures f = scope_figures(scope);
    return f.bytes_allocated - f.bytes_freed;
}

static inline uint64_t live_of(uint16_t type) {
    flk_figures f = type_figures(type);
    return f.allocations - f.frees;
}

static inline size_t shown_in(uint32_t scope) {
    flk_snapshot snapshot;
    CHECK(flk_snapshot_collect(scope, 0, 0, &snapshot));
    size_t count = snapshot.count;
    flk_snapshot_drop(&snapshot);
    return count;
}

// A block at a made-up address.
static inline void track(uint64_t address, uint64_t size_bytes) {
    CHECK(flk_track(address, size_bytes, FLK_LAYER_HANDLE, type_of("int"),
                    FLK_SCOPE_NONE, 0));
}

static inline void *in_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    return result;
}

// The signal that ends a child that runs this, 0 if it returns.
static inline int signal_of(void (*run)(void)) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(STDERR_FILENO);
        run();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

// Does a child that runs this say true, within ten seconds?
static inline bool child_says(bool (*run)(void)) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        _exit(run() ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

// Last in each program: every structure is sound.
static inline void test_everything_is_sound(void) {
    CHECK(flk_tracker_check());
}

#endif
