// context.c - contexts and scopes. Contract: tracker/context.h.              SPDX-License-Identifier: MIT
#include "tracker/context.h"

#include "base/platform.h"
#include "registry/scope.h"

// A scope is counted here before its context is visible to other code, and
// until the scope ends. Therefore a thread that reads 0 has no context scope.
atomic_int flk_contexts_open;

static struct {
    atomic_ullong unknown;  // relaxed, reports only
} contexts;

void flk_context_set(uint32_t scope) {
    FLK_ASSERT(scope == FLK_SCOPE_NONE || scope < FLK_SCOPES_MAX);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    thread->context_scope = scope;
    thread->context_serial =
        scope == FLK_SCOPE_NONE ? 0 : flk_scope_serial(scope);
    if (!flk_pyframe_context(&thread->context, &thread->context_version))
        thread->context = NULL;
    flk_thread_leave(thread);
}

void flk_context_count(int change) {
    FLK_ASSERT(change >= -1 && change <= 1);
    atomic_fetch_add_explicit(&flk_contexts_open, change, memory_order_relaxed);
}

uint32_t flk_context_scope(const flk_thread *thread) {
    FLK_ASSERT(thread != NULL);
    const void *context;
    uint64_t version;
    if (!flk_context_is_open() || !flk_pyframe_context(&context, &version) ||
        !context)
        return FLK_SCOPE_NONE;
    if (thread->context == context && thread->context_version == version) {
        uint32_t scope = flk_scope_open_ancestor(thread->context_scope,
                                                 thread->context_serial);
        return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : scope;
    }
    atomic_fetch_add_explicit(&contexts.unknown, 1, memory_order_relaxed);
    return FLK_SCOPE_NONE;
}

uint64_t flk_context_unknown(void) {
    return atomic_load_explicit(&contexts.unknown, memory_order_relaxed);
}

void flk_context_clear(void) {
    atomic_store_explicit(&contexts.unknown, 0, memory_order_relaxed);
}
