// context.h - the scope of C code that runs below Python code.           SPDX-License-Identifier: MIT
// Keeps:   in each flk_thread the scope set last and the context it was set in; how many context scopes are open.
// Cost:    two loads of the thread state.
// Callers: any thread, GIL not needed.
// Invariant: a scope is named only when the thread's context is provably the one it was set in and unchanged
//            since; else the process scope, counted in scope_unknown where there was a choice.
#ifndef FLK_CONTEXT_H
#define FLK_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"

// The context of this thread now has this scope (FLK_SCOPE_NONE: none).
void flk_context_set(uint32_t scope);
// A context scope was opened (+1) or ended (-1).
void flk_context_count(int change);
extern atomic_int flk_contexts_open;  // relaxed: see flk_context_count
static inline bool flk_context_is_open(void) {
    return atomic_load_explicit(&flk_contexts_open, memory_order_relaxed) != 0;
}
// The scope for an allocation made by C code of this thread.
uint32_t flk_context_scope(const flk_thread *thread);
uint64_t flk_context_unknown(void);
void flk_context_clear(void);

#endif
