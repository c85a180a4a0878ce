// thread.h - what the tracker keeps for each thread.                     SPDX-License-Identifier: MIT
// Keeps:   a block of mapped pages a thread, in one list; what ended threads counted is added to `totals`.
// Cost:    flk_thread_enter: one thread-local load once the block is there.
// Callers: any thread. Lock ranks: FLK_RANK_THREADS (the list), FLK_RANK_TOTALS.
// Fails:   no page left: flk_thread_enter returns NULL, the caller counts a drop.
// Invariant: a block is in the list from its first use to its thread's end; only its thread writes it.
#ifndef FLK_THREAD_H
#define FLK_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/counters.h"
#include "base/platform.h"
#include "base/sequence.h"
#include "paths/pyframe.h"

struct flk_native;

// A call path this thread was seen in, by the marks it depends on.
typedef struct flk_memo {
    uint64_t generation;  // of flk_sites: code addresses mean the same since
    uint32_t path;
    uint16_t depth;  // the frames asked for; 0 = empty
    uint16_t seen_count;
    flk_frame_seen seen[FLK_PATH_MARKS_MAX];
} flk_memo;

typedef struct flk_thread {
    uint32_t inside;   // the guard: the tracker is at work in this thread
    bool is_noted;     // Python knows its name (python/allocator.c)
    bool is_attached;  // C code that holds the GIL runs us (python/allocator.c)
    uint32_t observing;  // a callback runs (tracker/observe.h)
    uint32_t quiet;      // objects made now are our own (python/objects.c)
    uint32_t number;     // 1.., 0 = past FLK_THREADS_MAX
    uint64_t ident;      // threading.get_ident()
    flk_sequence_block sequence;
    flk_cells scopes;                    // by scope id
    flk_cells types;                     // by type id
    uint32_t cached_scope, cached_type;  // the last cells used
    flk_cell *cached_scope_cell, *cached_type_cell;
    // Two types whose releases were found to match: given << 16 | recorded.
    uint32_t matched_types;
    // The scope Python code set last, and the context it was set in.
    uint32_t context_scope, context_serial;
    // The process scope an event of this thread is about to be recorded in,
    // else 0: its number is not given out again meanwhile (a hazard pointer:
    // Michael, 2004). Written by the owner, read by flk_scope_drop.
    atomic_uint scope_in_use;
    const void *context;
    uint64_t context_version;
    struct flk_native *native;           // paths/unwind.h; NULL until asked for
    struct flk_thread *next, *previous;  // FLK_RANK_THREADS
    uint32_t outside_at;     // the last wait that saw it outside; same lock
    uint32_t recalled_late;  // paths that the first table did not have
    flk_memo *last;          // the one that matched last, or any
    flk_memo
        near[FLK_PATH_MEMO_WAYS];  // paths/stack.c: by their innermost calls
    flk_memo whole[FLK_PATH_MEMO_WAYS];  // by all of their marks
} flk_thread;

void flk_thread_init(void);
// The first event of a thread: its block, with the guard set; or NULL.
flk_thread *flk_thread_begin(void);

// A plain store, which flk_thread_wait_outside() may read at the same time.
static inline void flk_thread_set_inside(flk_thread *thread, uint32_t inside) {
    __atomic_store_n(&thread->inside, inside, __ATOMIC_RELAXED);
}

// This thread's block with the guard set; NULL if it is set already (the
// tracker is re-entered) or no block can be had.
static inline flk_thread *flk_thread_enter(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    if (FLK_UNLIKELY(!thread))
        return flk_thread_begin();
    if (FLK_UNLIKELY(thread->inside))
        return NULL;
    flk_thread_set_inside(thread, 1);
    atomic_signal_fence(memory_order_seq_cst);  // against signal handlers
    return thread;
}

static inline void flk_thread_leave(flk_thread *thread) {
    FLK_ASSERT(thread->inside == 1);
    atomic_signal_fence(memory_order_seq_cst);
    flk_thread_set_inside(thread, 0);
}

bool flk_thread_is_inside(void);
// Returns when every other thread has been seen outside the guard since the
// call began, or after some seconds: a debugger may have stopped a thread
// inside. What this thread stored before the call is seen by every guard that
// is entered later. Milliseconds beside busy threads. Not inside the guard.
void flk_thread_wait_outside(void);

// Does an event of any thread hold on to this process scope?
bool flk_thread_list_use_scope(uint32_t scope);
// Under the lock of the list.
void flk_thread_list_lock(void);
void flk_thread_list_unlock(void);
flk_thread *flk_thread_list_first(void);

// What ended threads counted; its cells exist for each scope and type that
// flk_totals_ready was called for. Writers hold its lock.
typedef struct flk_totals {
    flk_cells scopes, types;
} flk_totals;
flk_totals *flk_thread_totals_lock(void);
void flk_thread_totals_unlock(void);

// The cell of the thread, made on demand; NULL without memory.
flk_cell *flk_thread_scope_cell_other(flk_thread *thread, uint32_t scope);
flk_cell *flk_thread_type_cell_other(flk_thread *thread, uint32_t type);

static inline flk_cell *flk_thread_scope_cell(flk_thread *thread,
                                              uint32_t scope) {
    return FLK_LIKELY(scope == thread->cached_scope)
               ? thread->cached_scope_cell
               : flk_thread_scope_cell_other(thread, scope);
}

static inline flk_cell *flk_thread_type_cell(flk_thread *thread,
                                             uint32_t type) {
    return FLK_LIKELY(type == thread->cached_type)
               ? thread->cached_type_cell
               : flk_thread_type_cell_other(thread, type);
}

uint32_t flk_thread_list_live_count(void);
// The ident of a thread number while the thread lives; 0 afterwards.
uint64_t flk_thread_ident_of(uint32_t number);
// In the child of a fork: blocks of threads that are no more.
void flk_thread_list_forget_others(void);

#endif
