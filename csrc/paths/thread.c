// thread.c - the list of blocks. Contract: paths/thread.h.                 SPDX-License-Identifier: MIT
#include "paths/thread.h"

#include <stddef.h>

#include "base/platform.h"
#include "paths/unwind.h"

static struct {
    flk_lock lock;  // guards the list and `number`
    flk_lock totals_lock;
    flk_thread *first;
    uint32_t number;         // the last one assigned
    atomic_uint live_count;  // relaxed: figures
    atomic_ullong unnumbered_count;
    uint32_t wait;     // the last call of flk_thread_wait_outside
    uint64_t doubted;  // by threads that ended; `lock` guards it
    flk_totals totals;
} threads = {
    .lock = FLK_LOCK_INIT(FLK_RANK_THREADS),
    .totals_lock = FLK_LOCK_INIT(FLK_RANK_TOTALS),
};

static size_t block_bytes(void) {
    return flk_platform_pages_for(sizeof(flk_thread));
}

// --- the list ----------------------------------------------------------
void flk_thread_list_lock(void) { flk_thread_lock(&threads.lock); }
void flk_thread_list_unlock(void) { flk_thread_unlock(&threads.lock); }
flk_thread *flk_thread_list_first(void) { return threads.first; }

static void list_add(flk_thread *thread) {
    FLK_ASSERT(thread->inside && !thread->next && !thread->previous);
    flk_lock_take(&threads.lock);
    if (threads.number < FLK_THREADS_MAX)
        thread->number = ++threads.number;
    else
        atomic_fetch_add(&threads.unnumbered_count, 1);
    thread->next = threads.first;
    if (threads.first)
        threads.first->previous = thread;
    threads.first = thread;
    atomic_fetch_add(&threads.live_count, 1);
    flk_lock_release(&threads.lock);
}

static uint64_t doubted_by(const flk_thread *thread) {
    return atomic_load_explicit(&thread->doubted, memory_order_relaxed);
}

// The caller holds the lock, or is the only thread.
static void list_remove(flk_thread *thread) {
    FLK_ASSERT(atomic_load(&threads.live_count) > 0);
    threads.doubted += doubted_by(thread);
    if (thread->previous)
        thread->previous->next = thread->next;
    else
        threads.first = thread->next;
    if (thread->next)
        thread->next->previous = thread->previous;
    atomic_fetch_sub(&threads.live_count, 1);
}

static flk_thread *lock_list(void) {
    flk_thread *guard = flk_thread_guard();
    flk_lock_take(&threads.lock);
    return guard;
}

static void unlock_list(flk_thread *guard) {
    flk_lock_release(&threads.lock);
    flk_thread_unguard(guard);
}

uint32_t flk_thread_list_live_count(void) {
    return atomic_load_explicit(&threads.live_count, memory_order_relaxed);
}

uint64_t flk_thread_unnumbered_count(void) {
    return atomic_load_explicit(&threads.unnumbered_count,
                                memory_order_relaxed);
}

bool flk_thread_list_use_scope(uint32_t scope,
                               bool (*is_within)(uint32_t, uint32_t)) {
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS && is_within != NULL);
    bool used = false;
    for (flk_thread *t = threads.first; t && !used; t = t->next) {
        uint32_t in_use = atomic_load(&t->scope_in_use);
        used = in_use != FLK_SCOPE_PROCESS && is_within(in_use, scope);
    }
    return used;
}

uint64_t flk_thread_ident_of(uint32_t number) {
    uint64_t ident = 0;
    flk_thread *guard = lock_list();
    for (flk_thread *t = threads.first; t && number; t = t->next)
        if (t->number == number)
            ident = t->ident;
    unlock_list(guard);
    return ident;
}

// --- scopes ------------------------------------------------------------
uint64_t flk_thread_doubted_count(void) {
    flk_thread *guard = lock_list();
    uint64_t count = threads.doubted;
    for (const flk_thread *t = threads.first; t; t = t->next)
        count += doubted_by(t);
    unlock_list(guard);
    return count;
}

void flk_thread_scope_opened(flk_thread *thread, bool is_bare) {
    FLK_ASSERT(thread->inside && thread == flk_platform_thread_pointer());
    atomic_fetch_add(&thread->opened, 1);
    if (is_bare)
        atomic_fetch_add(&thread->opened_bare, 1);
}

// Another thread without a number may have opened the scope.
static void count_down(atomic_uint *count) {
    uint32_t now = atomic_load(count);
    while (now > 0 && !atomic_compare_exchange_weak(count, &now, now - 1))
        ;
}

static void close_in(flk_thread *thread, bool was_bare) {
    FLK_ASSERT(thread != NULL);
    count_down(&thread->opened);
    if (was_bare)
        count_down(&thread->opened_bare);
}

void flk_thread_scope_closed(uint32_t opener, bool was_bare) {
    FLK_ASSERT(opener <= FLK_THREADS_MAX);
    flk_thread *self = flk_platform_thread_pointer();
    if (FLK_LIKELY(self && self->number == opener)) {
        close_in(self, was_bare);
        return;
    }
    flk_thread *guard = lock_list();
    for (flk_thread *t = threads.first; t && opener; t = t->next)
        if (t->number == opener)
            close_in(t, was_bare);
    unlock_list(guard);
}

// --- totals ------------------------------------------------------------
flk_totals *flk_thread_totals_lock(void) {
    flk_thread_lock(&threads.totals_lock);
    return &threads.totals;
}

void flk_thread_totals_unlock(void) { flk_thread_unlock(&threads.totals_lock); }

static void fold_cell(uint32_t number, flk_cell *cell, void *context) {
    FLK_ASSERT(context && cell);
    flk_cell *into = flk_counters_at(context, number, false);
    if (into)
        flk_counters_cell_fold(into, cell);
    else  // a scope or type has a total before its first event
        FLK_ASSERT(atomic_load(&cell->alloc_count) == 0);
}

// With the guard held: it takes locks.
static void parts_free(flk_thread *thread) {
    FLK_ASSERT(thread);
    flk_counters_free(&thread->scopes);
    flk_counters_free(&thread->types);
    flk_unwind_free(thread->native);
}

static void block_free(flk_thread *thread) {
    FLK_ASSERT(thread != flk_platform_thread_pointer());
    flk_platform_pages_unmap(thread, block_bytes());
}

static atomic_ullong last_end;  // relaxed

uint64_t flk_thread_last_end(void) {
    return atomic_load_explicit(&last_end, memory_order_relaxed);
}

static void (*on_end)(flk_thread *thread);  // set once, before any thread

void flk_thread_on_end(void (*ends)(flk_thread *thread)) { on_end = ends; }

// A thread ends: its counts are added to the totals, and its block is unmapped.
static void thread_ends(void *pointer) {
    flk_thread *thread = pointer;
    FLK_ASSERT(thread == flk_platform_thread_pointer());
    thread->inside++;
    if (on_end)
        on_end(thread);
    atomic_store_explicit(&last_end, flk_sequence_mark(), memory_order_relaxed);
    flk_lock_take(&threads.lock);
    list_remove(thread);
    flk_totals *totals = flk_thread_totals_lock();
    flk_counters_each(&thread->scopes, fold_cell, &totals->scopes);
    flk_counters_each(&thread->types, fold_cell, &totals->types);
    flk_thread_totals_unlock();
    flk_lock_release(&threads.lock);
    parts_free(thread);  // takes a lock: inside the guard still
    flk_platform_thread_set_pointer(NULL);
    block_free(thread);
}

void flk_thread_list_forget_others(void) {
    FLK_ASSERT(flk_platform_thread_pointer() == NULL ||
               atomic_load(&threads.live_count) > 0);
    flk_thread *self = flk_platform_thread_pointer();
    for (flk_thread *t = threads.first, *next; t; t = next) {
        next = t->next;
        if (t == self)
            continue;
        list_remove(t);
        parts_free(t);
        block_free(t);
    }
}

// --- this thread -------------------------------------------------------
#ifdef FLK_DEBUG
static bool may_lock(void) {
    const flk_thread *thread = flk_platform_thread_pointer();
    return !thread || thread->inside;
}
#endif

void flk_thread_init(void) {
    flk_platform_thread_at_exit(thread_ends);
#ifdef FLK_DEBUG
    flk_platform_lock_only_if(may_lock);
#endif
}

FLK_NOINLINE flk_thread *flk_thread_begin(void) {
    FLK_ASSERT(flk_platform_thread_pointer() == NULL);
    flk_thread *thread =
        flk_platform_pages_map(block_bytes(), flk_platform_page_bytes());
    if (!thread)
        return NULL;
    thread->ident = flk_platform_thread_ident();
    thread->cached_scope = thread->cached_type = UINT32_MAX;
    thread->last = &thread->near[0];
    thread->young_tag = FLK_THREAD_NO_SEAT;
    thread->inside = 1;  // pthread_setspecific may allocate
    flk_platform_thread_set_pointer(thread);
    list_add(thread);
    return thread;
}

bool flk_thread_is_inside(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    return thread && thread->inside;
}

// --- waiting until the guards were left ----------------------------------
// Both run inside this thread's guard: a signal handler that allocates
// meanwhile must not wait for the lock of the list.
static uint32_t wait_begin(void) {
    FLK_ASSERT(flk_thread_is_inside());
    flk_lock_take(&threads.lock);
    uint32_t wait = ++threads.wait;
    flk_lock_release(&threads.lock);
    return wait;
}

// Whether every other thread was seen outside since the wait began. What a
// later wait has seen counts, too.
static bool are_all_outside(const flk_thread *self, uint32_t wait) {
    FLK_ASSERT(flk_thread_is_inside());
    bool all = true;
    flk_lock_take(&threads.lock);
    for (flk_thread *t = threads.first; t; t = t->next) {
        if (t == self || (int32_t)(t->outside_at - wait) >= 0)
            continue;
        if (__atomic_load_n(&t->inside, __ATOMIC_ACQUIRE) == 0)
            t->outside_at = wait;
        else
            all = false;
    }
    flk_lock_release(&threads.lock);
    return all;
}

void flk_thread_wait_outside(void) {
    enum { LOOKS_MAX = 5000 };  // with pauses of 1 ms
    FLK_ASSERT(!flk_thread_is_inside());
    flk_thread *self = flk_thread_enter();
    if (!self)
        return;
    uint32_t wait = wait_begin();
    flk_platform_fence_threads();
    bool is_over = are_all_outside(self, wait);
    flk_thread_leave(self);
    for (int i = 0; i < LOOKS_MAX && !is_over; i++) {
        flk_platform_pause();
        self = flk_thread_enter();
        is_over = !self || are_all_outside(self, wait);
        if (self)
            flk_thread_leave(self);
    }
}

// --- cells other than the last ones ----------------------------------
flk_cell *flk_thread_scope_cell_other(flk_thread *thread, uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    flk_cell *cell = flk_counters_at(&thread->scopes, scope, true);
    if (cell) {
        thread->cached_scope = scope;
        thread->cached_scope_cell = cell;
    }
    return cell;
}

flk_cell *flk_thread_type_cell_other(flk_thread *thread, uint32_t type) {
    FLK_ASSERT(type <= FLK_TYPES_MAX);
    flk_cell *cell = flk_counters_at(&thread->types, type, true);
    if (cell) {
        thread->cached_type = type;
        thread->cached_type_cell = cell;
    }
    return cell;
}
