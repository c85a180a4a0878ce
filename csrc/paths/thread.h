// thread.h - the block of each thread: guard, counters, remembered paths.  SPDX-License-Identifier: MIT
// Keeps:   a block of mapped pages for each thread, in one list. The counts of ended threads are added to `totals`.
// Cost:    flk_thread_enter: one thread-local load, once the block exists.
// Callers: any thread. Lock ranks: FLK_RANK_THREADS (the list), FLK_RANK_TOTALS.
// Fails:   flk_thread_enter returns NULL without memory, and the caller counts a drop.
// Invariant: a block is in the list from its first use to the end of its thread. Only its thread writes to it.
#ifndef FLK_THREAD_H
#define FLK_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/counters.h"
#include "base/platform.h"
#include "base/sequence.h"
#include "paths/pycontext.h"
#include "paths/pyframe.h"

struct flk_native;

// A call path of this thread and the marks that identify it.
typedef struct flk_memo {
    uint64_t generation;  // of flk_sites; valid while it is the same
    uint32_t path;
    uint16_t depth;  // the number of frames requested; 0 = empty entry
    uint16_t seen_count;
    flk_frame_seen seen[FLK_PATH_MARKS_MAX];
} flk_memo;

// Buffers of a walk (paths/stack.c). They are here and not on the stack, which
// may be a small signal stack; the guard keeps a signal handler from using
// them at the same time.
enum { FLK_WALK_FRAMES_MAX = FLK_PATH_FRAMES_MAX + FLK_PATH_OWN_FRAMES_MAX };
typedef struct flk_walk_buffers {
    flk_frame_seen seen[FLK_PATH_MARKS_MAX];
    flk_raw_frame frames[FLK_WALK_FRAMES_MAX];
    uint32_t sites[FLK_WALK_FRAMES_MAX];
} flk_walk_buffers;

typedef struct flk_thread {
    uint32_t inside;     // the guard: this thread is inside the tracker
    bool is_noted;       // its name was passed to Python (python/allocator.c)
    bool is_attached;    // this thread holds the GIL (python/allocator.c)
    uint32_t observing;  // a callback of an observer runs (tracker/observe.h)
    uint32_t quiet;  // objects created now are the package's (python/objects.c)
    uint32_t number;  // from 1; 0 = unknown, beyond FLK_THREADS_MAX
    uint64_t ident;   // threading.get_ident()
    flk_sequence_block sequence;
    flk_cells scopes;                    // by scope number
    flk_cells types;                     // by type number
    uint32_t cached_scope, cached_type;  // the last cells used
    flk_cell *cached_scope_cell, *cached_type_cell;
    // The last two types whose releases matched: given << 16 | recorded.
    uint32_t matched_types;
    // The context seen last, and the scope that it has; FLK_SCOPE_NONE: none.
    flk_context_mark context;
    uint32_t context_scope, context_serial;
    bool is_context_entered;  // flk_context_value; for contexts without scope
    // Open context scopes that this thread opened, and those among them that
    // were opened outside of tasks and Context.run. Written by the thread that
    // opens or closes one.
    atomic_uint opened, opened_bare;
    // Blocks of this thread that may belong to more than one context scope.
    // Written by the owner. Relaxed.
    atomic_ullong doubted;
    // The scope in which an event of this thread is about to be recorded, if no
    // object of this thread refers to it, else 0. Its number and those above it
    // are not reused meanwhile (a hazard pointer: Michael, 2004). Written by
    // the owner, read by registry/account.c.
    atomic_uint scope_in_use;
    // Its slots of recent blocks (registry/young.h). `young_tag` is the seat, as
    // keys have it, or FLK_THREAD_NO_SEAT.
    uint64_t young_tag;
    atomic_uint young_busy;   // uses its slots now
    atomic_uint young_skip;   // frees until it takes slots again; relaxed
    atomic_uint young_is_on;  // may put an address into a slot
    uint32_t young_hits;      // frees from a slot, and
    uint32_t young_misses;    // beside them, since the last judgement
    uint32_t young_full;      // frees that found a live block in the slot
    uint32_t young_foreign;   // frees that found another owner
    // Addresses that it released in a pause, without a record, and the era in
    // which they are valid (hooks/pause.h); 0: none.
    uint64_t absent_era;
    uint64_t absent[FLK_ABSENT_PLACES];
    struct flk_native *native;           // paths/unwind.h; NULL at first
    struct flk_thread *next, *previous;  // FLK_RANK_THREADS
    uint32_t outside_at;     // the last wait that saw it outside; same lock
    uint32_t recalled_late;  // paths found in `whole` only
    flk_memo *last;          // the entry that matched last, or any
    // Remembered paths (paths/stack.c), by their two innermost marks and by all
    // of their marks.
    flk_memo near[FLK_PATH_MEMO_ENTRIES];
    flk_memo whole[FLK_PATH_MEMO_ENTRIES];
    flk_walk_buffers walk;
} flk_thread;

#define FLK_THREAD_NO_SEAT UINT64_MAX

void flk_thread_init(void);
// `ends` is called when a thread ends, inside its guard, before its block is
// taken from the list.
void flk_thread_on_end(void (*ends)(flk_thread *thread));
// Makes the block of this thread and sets its guard; NULL without memory.
flk_thread *flk_thread_begin(void);

// A plain store, which flk_thread_wait_outside() may read at the same time.
static inline void flk_thread_set_inside(flk_thread *thread, uint32_t inside) {
    __atomic_store_n(&thread->inside, inside, __ATOMIC_RELAXED);
}

// Sets the guard and returns the block of this thread. NULL if the guard is set
// already (the tracker is re-entered), or if there is no memory for a block.
static inline flk_thread *flk_thread_enter(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    if (FLK_UNLIKELY(!thread))
        return flk_thread_begin();
    if (FLK_UNLIKELY(thread->inside))
        return NULL;
    flk_thread_set_inside(thread, 1);
    atomic_signal_fence(memory_order_seq_cst);  // a handler must see it
    return thread;
}

static inline void flk_thread_leave(flk_thread *thread) {
    FLK_ASSERT(thread->inside == 1);
    FLK_ASSERT(thread == flk_platform_thread_pointer());
    atomic_signal_fence(memory_order_seq_cst);
    flk_thread_set_inside(thread, 0);
}

// A mark (base/sequence.h) of when a thread with a block ended last; 0: none.
uint64_t flk_thread_last_end(void);

// True if the guard of this thread is set.
bool flk_thread_is_inside(void);
// Returns when every other thread has been seen outside the guard since the
// call began, or after some seconds: a debugger may have stopped a thread
// inside. What this thread stored before the call is seen by every guard that
// is entered later. Milliseconds beside busy threads. Not inside the guard.
void flk_thread_wait_outside(void);

// For functions that take a lock outside of events. They set the guard, so that
// a signal handler that allocates meanwhile does not wait for the lock. Returns
// NULL if the guard was set before; the result is passed to flk_thread_unguard.
static inline flk_thread *flk_thread_guard(void) { return flk_thread_enter(); }

static inline void flk_thread_unguard(flk_thread *guard) {
    if (guard)
        flk_thread_leave(guard);
}

// For functions that take locks that an event may take, and are no events: sets
// the guard, or keeps it set. A signal handler that allocates meanwhile is not
// recorded, so it does not wait for a lock of its own thread. NULL if there is
// no memory for a block: then no event of this thread can be recorded either.
static inline flk_thread *flk_thread_hold(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    if (FLK_UNLIKELY(!thread))
        return flk_thread_begin();
    flk_thread_set_inside(thread, thread->inside + 1);
    atomic_signal_fence(memory_order_seq_cst);
    return thread;
}

static inline void flk_thread_let_go(flk_thread *thread) {
    if (FLK_UNLIKELY(!thread))
        return;
    FLK_ASSERT(thread->inside > 0);
    atomic_signal_fence(memory_order_seq_cst);
    flk_thread_set_inside(thread, thread->inside - 1);
}

// Takes a lock with the guard held; unlock releases both.
static inline void flk_thread_lock(flk_lock *lock) {
    flk_thread_hold();
    flk_lock_take(lock);
}

static inline void flk_thread_unlock(flk_lock *lock) {
    flk_thread *thread = flk_platform_thread_pointer();
    flk_lock_release(lock);
    if (FLK_LIKELY(thread && thread->inside))
        flk_thread_let_go(thread);
}

// The list of blocks. Lock and unlock set and clear the guard of the thread.
void flk_thread_list_lock(void);
void flk_thread_list_unlock(void);
// Under the lock of the list: true if an event of any thread is about to be
// recorded in this scope or in one below it. `is_within` is flk_scope_is_within.
bool flk_thread_list_use_scope(uint32_t scope,
                               bool (*is_within)(uint32_t scope,
                                                 uint32_t view));
flk_thread *flk_thread_list_first(void);

// The counts of ended threads. A scope or type has a cell here before its first
// event is counted in any thread. Writers hold the lock.
typedef struct flk_totals {
    flk_cells scopes, types;
} flk_totals;
flk_totals *flk_thread_totals_lock(void);
void flk_thread_totals_unlock(void);

// The cell of this thread for a scope or type, made on demand; NULL without
// memory.
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
// Threads that have no number of their own because FLK_THREADS_MAX was reached.
uint64_t flk_thread_unnumbered_count(void);
// The threading.get_ident() of a thread number; 0 when the thread has ended.
uint64_t flk_thread_ident_of(uint32_t number);
// The sum of `doubted` over all threads that ever ran.
uint64_t flk_thread_doubted_count(void);
// Counts a context scope that this thread opened. Inside the guard.
void flk_thread_scope_opened(flk_thread *thread, bool is_bare);
// Counts that a context scope is no longer open, for the thread that opened it.
void flk_thread_scope_closed(uint32_t opener, bool was_bare);
// In the child of a fork: frees the blocks of all other threads.
void flk_thread_list_forget_others(void);

#endif
