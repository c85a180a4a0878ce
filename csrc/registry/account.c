// account.c - the books: types and chains of scopes. Contract: registry/account.h. SPDX-License-Identifier: MIT
#include "registry/account.h"

#include <string.h>

#include "base/platform.h"
#include "registry/scope.h"

// --- before an event ---------------------------------------------------
bool flk_account_prepare_type(uint32_t type) {
    bool made =
        flk_counters_at(&flk_thread_totals_lock()->types, type, true) != NULL;
    flk_thread_totals_unlock();
    return made;
}

bool flk_account_prepare_scope(uint32_t scope) {
    bool made =
        flk_counters_at(&flk_thread_totals_lock()->scopes, scope, true) != NULL;
    flk_thread_totals_unlock();
    return made;
}

bool flk_account_ready_any(flk_thread *thread, uint32_t scope, uint32_t type) {
    bool ready = flk_thread_type_cell(thread, type) != NULL;
    // The innermost last, so that its cell stays the cached one.
    uint32_t above = flk_scope_parent(scope);
    for (; above != FLK_SCOPE_NONE; above = flk_scope_parent(above))
        ready = ready && flk_counters_at(&thread->scopes, above, true);
    return ready && flk_thread_scope_cell(thread, scope);
}

// --- an event ----------------------------------------------------------
static flk_cell *scope_cell(flk_thread *thread, uint32_t scope,
                            uint32_t innermost) {
    return scope == innermost ? flk_thread_scope_cell(thread, scope)
                              : flk_counters_at(&thread->scopes, scope, true);
}

void flk_account_alloc_any(flk_thread *thread, uint32_t scope, uint32_t type,
                           uint64_t size_bytes) {
    flk_cell_alloc(flk_thread_type_cell(thread, type), size_bytes);
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = flk_scope_parent(s))
        flk_cell_alloc(scope_cell(thread, s, scope), size_bytes);
}

// A thread that cannot have a cell counts its free in the totals.
static void free_in(flk_cell *cell, flk_cells *totals, uint32_t number,
                    uint64_t size_bytes) {
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
    // The child before its parents: a parent is empty only if all below are.
    // Once counted, a scope may be empty and its number be given out again,
    // below another parent: its parent is read before.
    uint32_t above;
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = above) {
        above = flk_scope_parent(s);
        flk_cell *cell = scope_cell(thread, s, scope);
        free_in(cell, cell ? NULL : &totals_of()->scopes, s, size_bytes);
    }
    flk_cell *cell = flk_thread_type_cell(thread, type);
    free_in(cell, cell ? NULL : &totals_of()->types, type, size_bytes);
}

static void resize_in(flk_cell *cell, flk_cells *totals, uint32_t number,
                      uint64_t old_bytes, uint64_t new_bytes) {
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
    return thread ? &thread->scopes : &totals->scopes;
}

static flk_cells *types_of(flk_thread *thread, flk_totals *totals) {
    return thread ? &thread->types : &totals->types;
}

static void each_cell(cells_of of, uint32_t number,
                      void (*visit)(flk_sum *, const flk_cell *), flk_sum *sum,
                      flk_totals *totals) {
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next) {
        flk_cell *cell = flk_counters_at(of(t, NULL), number, false);
        if (cell)
            visit(sum, cell);
    }
    flk_cell *cell = flk_counters_at(of(NULL, totals), number, false);
    if (cell)
        visit(sum, cell);
}

static void sum_up(cells_of of, uint32_t number, flk_sum *sum) {
    memset(sum, 0, sizeof *sum);
    flk_thread_list_lock();
    flk_totals *totals = flk_thread_totals_lock();
    each_cell(of, number, flk_counters_sum_frees, sum, totals);
    each_cell(of, number, flk_counters_sum_allocs, sum, totals);
    flk_thread_totals_unlock();
    flk_thread_list_unlock();
}

void flk_account_scope(uint32_t scope, flk_sum *sum) {
    sum_up(scopes_of, scope, sum);
}

void flk_account_type(uint32_t type, flk_sum *sum) {
    sum_up(types_of, type, sum);
}

bool flk_account_scope_is_empty(uint32_t scope) {
    flk_sum sum;
    flk_account_scope(scope, &sum);
    return sum.alloc_count == sum.free_count;
}

// --- corrections -------------------------------------------------------
static void clear_cell(flk_sum *unused, const flk_cell *cell) {
    (void)unused;
    flk_counters_cell_clear((flk_cell *)cell);
}

static void lower_peak(flk_sum *unused, const flk_cell *cell) {
    (void)unused;
    flk_counters_cell_lower_peak((flk_cell *)cell);
}

void flk_account_lower_peak_held(uint32_t scope) {
    each_cell(scopes_of, scope, lower_peak, NULL, flk_thread_totals_lock());
    flk_thread_totals_unlock();
}

void flk_account_clear_scope(uint32_t scope) {
    flk_thread_list_lock();
    each_cell(scopes_of, scope, clear_cell, NULL, flk_thread_totals_lock());
    flk_thread_totals_unlock();
    flk_thread_list_unlock();
}

static flk_thread *thread_numbered(uint32_t number) {
    flk_thread *t = flk_thread_list_first();
    while (t && (t->number != number || number == 0))
        t = t->next;
    return t;
}

// The cell of the thread that allocated; else that of the ended threads.
static flk_cell *cell_of(cells_of of, uint32_t number, flk_thread *thread,
                         flk_totals *totals) {
    flk_cell *cell =
        thread ? flk_counters_at(of(thread, NULL), number, false) : NULL;
    return cell ? cell : flk_counters_at(of(NULL, totals), number, false);
}

void flk_account_forget(uint32_t thread_number, uint32_t scope, uint32_t type,
                        uint64_t size_bytes) {
    flk_thread *thread = thread_numbered(thread_number);
    flk_totals *totals = flk_thread_totals_lock();
    flk_cell_free(cell_of(types_of, type, thread, totals), size_bytes);
    for (uint32_t s = scope; s != FLK_SCOPE_NONE; s = flk_scope_parent(s))
        flk_cell_free(cell_of(scopes_of, s, thread, totals), size_bytes);
    flk_thread_totals_unlock();
}

static void clear_each(uint32_t number, flk_cell *cell, void *context) {
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
    clear_everywhere(types_of);
    clear_everywhere(scopes_of);
}
