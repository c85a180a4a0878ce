// account.c - counts in types and chains of scopes. Contract: registry/account.h. SPDX-License-Identifier: MIT
#include "registry/account.h"

#include <string.h>

#include "base/config.h"
#include "base/platform.h"

// --- before an event ---------------------------------------------------
bool flk_account_prepare_type(uint32_t type) {
    FLK_ASSERT(type != 0);
    bool made =
        flk_counters_at(&flk_thread_totals_lock()->types, type, true) != NULL;
    flk_thread_totals_unlock();
    return made;
}

bool flk_account_prepare_scope(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    bool made =
        flk_counters_at(&flk_thread_totals_lock()->scopes, scope, true) != NULL;
    flk_thread_totals_unlock();
    return made;
}

bool flk_account_ready_any(flk_thread *thread, uint32_t scope, uint32_t type) {
    FLK_ASSERT(thread != NULL && type <= FLK_TYPES_MAX);
    FLK_ASSERT(thread->inside && type != 0 && scope != FLK_SCOPE_NONE);
    bool ready = flk_thread_type_cell(thread, type) != NULL;
    // The innermost scope comes last, so that its cell stays cached.
    uint32_t above = flk_scope_parent(scope);
    for (; above != FLK_SCOPE_NONE; above = flk_scope_parent(above))
        ready = ready && flk_counters_at(&thread->scopes, above, true);
    return ready && flk_thread_scope_cell(thread, scope);
}

// --- an event ----------------------------------------------------------
static flk_cell *scope_cell(flk_thread *thread, uint32_t scope,
                            uint32_t innermost) {
    FLK_ASSERT(thread != NULL && scope < FLK_SCOPES_MAX);
    return scope == innermost ? flk_thread_scope_cell(thread, scope)
                              : flk_counters_at(&thread->scopes, scope, true);
}

void flk_account_alloc_any(flk_thread *thread, uint32_t scope, uint32_t type,
                           uint64_t size_bytes) {
    FLK_ASSERT(size_bytes <= FLK_SIZE_MAX);
    FLK_ASSERT(thread->inside && type != 0);
    flk_cell_alloc(flk_thread_type_cell(thread, type), size_bytes);
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = flk_scope_parent(s))
        flk_cell_alloc(scope_cell(thread, s, scope), size_bytes);
}

// Counts a free in `cell`. If the thread has no cell (NULL), the free is
// counted in the totals of ended threads.
static void free_in(flk_cell *cell, flk_cells *totals, uint32_t number,
                    uint64_t size_bytes) {
    FLK_ASSERT(cell != NULL || totals != NULL);
    if (FLK_LIKELY(cell != NULL)) {
        flk_cell_free(cell, size_bytes);
        return;
    }
    flk_thread_totals_lock();
    flk_cell_free(flk_counters_at(totals, number, false), size_bytes);
    flk_thread_totals_unlock();
}

static flk_totals *totals_of(void) {
    flk_totals *totals = flk_thread_totals_lock();
    flk_thread_totals_unlock();
    return totals;
}

void flk_account_free_any(flk_thread *thread, uint32_t scope, uint32_t type,
                          uint64_t size_bytes) {
    FLK_ASSERT(size_bytes <= FLK_SIZE_MAX);
    FLK_ASSERT(thread->inside && type != 0);
    // A scope is counted before its parent. So a parent looks empty only after
    // all scopes below it look empty. The parent is read before the free is
    // counted: after the count the number may be given back and taken again
    // below another parent.
    uint32_t above;
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = above) {
        above = flk_scope_parent(s);
        flk_cell *cell = scope_cell(thread, s, scope);
        free_in(cell, cell ? NULL : &totals_of()->scopes, s, size_bytes);
    }
    flk_cell *cell = flk_thread_type_cell(thread, type);
    free_in(cell, cell ? NULL : &totals_of()->types, type, size_bytes);
}

void flk_account_retype(flk_thread *thread, uint32_t from, uint32_t to,
                        uint64_t size_bytes) {
    FLK_ASSERT(size_bytes <= FLK_SIZE_MAX);
    FLK_ASSERT(thread->inside && from != 0 && to != 0);
    flk_cell *cell = flk_thread_type_cell(thread, from);
    free_in(cell, cell ? NULL : &totals_of()->types, from, size_bytes);
    cell = flk_thread_type_cell(thread, to);
    FLK_ASSERT(cell != NULL);
    flk_cell_alloc(cell, size_bytes);
}

static void resize_in(flk_cell *cell, flk_cells *totals, uint32_t number,
                      uint64_t old_bytes, uint64_t new_bytes) {
    FLK_ASSERT(cell != NULL || totals != NULL);
    if (FLK_LIKELY(cell != NULL)) {
        flk_counters_cell_resize(cell, old_bytes, new_bytes);
        return;
    }
    flk_thread_totals_lock();
    flk_counters_cell_resize(flk_counters_at(totals, number, false), old_bytes,
                             new_bytes);
    flk_thread_totals_unlock();
}

void flk_account_resize(flk_thread *thread, uint32_t scope, uint32_t type,
                        uint64_t old_bytes, uint64_t new_bytes) {
    FLK_ASSERT(old_bytes <= FLK_SIZE_MAX && new_bytes <= FLK_SIZE_MAX);
    FLK_ASSERT(thread->inside && type != 0);
    flk_cell *cell = flk_thread_type_cell(thread, type);
    resize_in(cell, cell ? NULL : &totals_of()->types, type, old_bytes,
              new_bytes);
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = flk_scope_parent(s)) {
        cell = scope_cell(thread, s, scope);
        resize_in(cell, cell ? NULL : &totals_of()->scopes, s, old_bytes,
                  new_bytes);
    }
}

// --- sums --------------------------------------------------------------
typedef flk_cells *(*cells_of)(flk_thread *, flk_totals *);

static flk_cells *scopes_of(flk_thread *thread, flk_totals *totals) {
    FLK_ASSERT(thread != NULL || totals != NULL);
    return thread ? &thread->scopes : &totals->scopes;
}

static flk_cells *types_of(flk_thread *thread, flk_totals *totals) {
    FLK_ASSERT(thread != NULL || totals != NULL);
    return thread ? &thread->types : &totals->types;
}

// Calls `visit` for the cell of every thread, then for the cell of the totals.
static void each_cell(cells_of of, uint32_t number,
                      void (*visit)(flk_sum *, const flk_cell *), flk_sum *sum,
                      flk_totals *totals) {
    FLK_ASSERT(of != NULL && visit != NULL && totals != NULL);
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next) {
        flk_cell *cell = flk_counters_at(of(t, NULL), number, false);
        if (cell)
            visit(sum, cell);
    }
    flk_cell *cell = flk_counters_at(of(NULL, totals), number, false);
    if (cell)
        visit(sum, cell);
}

// Sums the frees of all cells before their allocations (base/counters.h).
static void sum_up(cells_of of, uint32_t number, flk_sum *sum) {
    FLK_ASSERT(sum != NULL);
    memset(sum, 0, sizeof *sum);
    flk_thread_list_lock();
    flk_totals *totals = flk_thread_totals_lock();
    each_cell(of, number, flk_counters_sum_frees, sum, totals);
    each_cell(of, number, flk_counters_sum_allocs, sum, totals);
    flk_thread_totals_unlock();
    flk_thread_list_unlock();
}

void flk_account_scope(uint32_t scope, flk_sum *sum) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    sum_up(scopes_of, scope, sum);
}

void flk_account_type(uint32_t type, flk_sum *sum) {
    FLK_ASSERT(type != 0 && type <= FLK_TYPES_MAX);
    sum_up(types_of, type, sum);
}

// Each scope is asked twice: at its end, and when its number may be free.
// Frees are read before allocations, as in sum_up.
bool flk_account_scope_is_empty(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    flk_thread_list_lock();
    const flk_cell *ended =
        flk_counters_find(&flk_thread_totals_lock()->scopes, scope);
    const flk_thread *first = flk_thread_list_first();
    uint64_t live = ended ? 0 - flk_cell_frees(ended) : 0;
    for (const flk_thread *t = first; t; t = t->next) {
        const flk_cell *cell = flk_counters_find(&t->scopes, scope);
        live -= cell ? flk_cell_frees(cell) : 0;
    }
    live += ended ? FLK_CELL_GET(ended, alloc_count) : 0;
    for (const flk_thread *t = first; t; t = t->next) {
        const flk_cell *cell = flk_counters_find(&t->scopes, scope);
        live += cell ? FLK_CELL_GET(cell, alloc_count) : 0;
    }
    flk_thread_totals_unlock();
    flk_thread_list_unlock();
    return live == 0;
}

// --- corrections -------------------------------------------------------
static void clear_cell(flk_sum *unused, const flk_cell *cell) {
    FLK_ASSERT(cell != NULL);
    (void)unused;
    flk_counters_cell_clear((flk_cell *)cell);
}

static void lower_peak(flk_sum *unused, const flk_cell *cell) {
    FLK_ASSERT(cell != NULL);
    (void)unused;
    flk_counters_cell_lower_peak((flk_cell *)cell);
}

void flk_account_lower_peak_held(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    FLK_ASSERT(flk_thread_is_inside());
    each_cell(scopes_of, scope, lower_peak, NULL, flk_thread_totals_lock());
    flk_thread_totals_unlock();
}

static flk_thread *thread_numbered(uint32_t number) {
    FLK_ASSERT(number <= FLK_THREADS_MAX);
    flk_thread *t = flk_thread_list_first();
    while (t && (t->number != number || number == 0))
        t = t->next;
    return t;
}

// The cell of the thread that allocated. Without one, the cell in the totals
// of ended threads.
static flk_cell *cell_of(cells_of of, uint32_t number, flk_thread *thread,
                         flk_totals *totals) {
    FLK_ASSERT(of != NULL && totals != NULL);
    flk_cell *cell =
        thread ? flk_counters_at(of(thread, NULL), number, false) : NULL;
    return cell ? cell : flk_counters_at(of(NULL, totals), number, false);
}

void flk_account_forget(uint32_t thread_number, uint32_t scope, uint32_t type,
                        uint64_t size_bytes) {
    FLK_ASSERT(flk_thread_is_inside() && type != 0);
    flk_thread *thread = thread_numbered(thread_number);
    flk_totals *totals = flk_thread_totals_lock();
    flk_cell_free(cell_of(types_of, type, thread, totals), size_bytes);
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = flk_scope_parent(s))
        flk_cell_free(cell_of(scopes_of, s, thread, totals), size_bytes);
    flk_thread_totals_unlock();
}

static void clear_each(uint32_t number, flk_cell *cell, void *context) {
    FLK_ASSERT(cell != NULL);
    (void)number;
    (void)context;
    flk_counters_cell_clear(cell);
}

static void clear_everywhere(cells_of of) {
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next)
        flk_counters_each(of(t, NULL), clear_each, NULL);
    flk_counters_each(of(NULL, flk_thread_totals_lock()), clear_each, NULL);
    flk_thread_totals_unlock();
}

void flk_account_clear_all(void) {
    FLK_ASSERT(flk_thread_is_inside());
    clear_everywhere(types_of);
    clear_everywhere(scopes_of);
}

// --- scopes ------------------------------------------------------------
// The lingering scopes form a ring: each link is the number of the next scope,
// and the link of the last scope is the number of the first.
static struct {
    uint32_t last;  // 0 = none
    uint32_t count;
} lingering;  // FLK_RANK_SCOPES

static void linger(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS && number < FLK_SCOPES_MAX);
    uint32_t *link = flk_scope_link_held(number);
    *link = number;
    if (lingering.last) {
        uint32_t *last = flk_scope_link_held(lingering.last);
        *link = *last;
        *last = number;
    }
    lingering.last = number;
    lingering.count++;
}

// Takes the first lingering scope out of the ring; 0 if the ring is empty.
static uint32_t first_out(void) {
    FLK_ASSERT(!lingering.last == !lingering.count);
    if (!lingering.last)
        return 0;
    uint32_t *last = flk_scope_link_held(lingering.last), first = *last;
    *last = *flk_scope_link_held(first);
    if (first == lingering.last)
        lingering.last = 0;
    lingering.count--;
    return first;
}

// True if no event counts in the number and no live block carries it. An event
// counts in its scope and in those above it. The events in progress are checked
// before the counts, because an event counts before it stops using the number.
static bool is_free(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS && number < FLK_SCOPES_MAX);
    flk_thread_list_lock();
    bool used = flk_thread_list_use_scope(number, flk_scope_is_within);
    flk_thread_list_unlock();
    return !used && flk_account_scope_is_empty(number);
}

// Needs the list of threads held.
static void clear_scope(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS && number < FLK_SCOPES_MAX);
    each_cell(scopes_of, number, clear_cell, NULL, flk_thread_totals_lock());
    flk_thread_totals_unlock();
}

static void give_back_or_linger(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS && number < FLK_SCOPES_MAX);
    if (!is_free(number)) {
        linger(number);
        return;
    }
    flk_thread_list_lock();
    clear_scope(number);
    flk_thread_list_unlock();
    flk_scope_give_back_held(number);
}

// Checks one lingering scope a call, so that a loop that opens scopes pays O(1)
// for the scopes it opened before.
static void check_one_lingering(void) {
    uint32_t number = first_out();
    if (number)
        give_back_or_linger(number);
}

uint32_t flk_account_open_scope(uint32_t parent, bool isolated, bool *made) {
    FLK_ASSERT(parent < FLK_SCOPES_MAX && made != NULL);
    flk_scope_lock_all();
    check_one_lingering();
    uint32_t number = flk_scope_take_held();
    if (number != FLK_SCOPE_NONE && !flk_account_prepare_scope(number)) {
        flk_scope_give_back_held(number);
        number = FLK_SCOPE_NONE;
    }
    *made = number != FLK_SCOPE_NONE;
    if (*made)
        flk_scope_begin_held(number, parent, isolated);
    flk_scope_unlock_all();
    return *made ? number : parent;
}

void flk_account_drop_scope(uint32_t number) {
    FLK_ASSERT(number < FLK_SCOPES_MAX);
    FLK_ASSERT(number != FLK_SCOPE_PROCESS);
    flk_scope_lock_all();
    flk_scope_set_dropped_held(number);
    give_back_or_linger(number);
    flk_scope_unlock_all();
}

uint32_t flk_account_lingering_count(void) {
    flk_scope_lock_all();
    uint32_t count = lingering.count;
    flk_scope_unlock_all();
    return count;
}

uint32_t flk_account_recycle_held(void) {
    FLK_ASSERT(flk_thread_is_inside());
    uint32_t left = lingering.count, recycled = 0;
    for (; left > 0; left--) {
        uint32_t number = first_out();
        clear_scope(number);
        if (flk_thread_list_use_scope(number, flk_scope_is_within)) {
            linger(number);  // an event is about to be recorded in it
            continue;
        }
        flk_scope_give_back_held(number);
        recycled++;
    }
    return recycled;
}
