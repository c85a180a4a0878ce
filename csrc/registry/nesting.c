// nesting.c - the forest of open scopes. Contract: registry/nesting.h.       SPDX-License-Identifier: MIT
#include "registry/nesting.h"

#include <stddef.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/sequence.h"
#include "paths/thread.h"
#include "registry/scope.h"

atomic_uint flk_nesting_unclaimed;  // at first: the process
atomic_bool flk_nesting_doubts;

static uint32_t top;  // the root that was opened last; FLK_RANK_SCOPES

static flk_scope_nest *nest_at(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    return flk_scope_nest_held(scope);
}

static uint32_t root_of(uint32_t scope) {
    FLK_ASSERT(nest_at(scope)->is_open);
    while (!nest_at(scope)->is_root)
        scope = nest_at(scope)->above;
    return scope;
}

// --- doubt ---------------------------------------------------------------
static void begin_doubt(flk_scope_nest *nest) {
    FLK_ASSERT(nest->is_open && !nest->is_root);
    atomic_store_explicit(&flk_nesting_doubts, true, memory_order_relaxed);
    nest->is_sure = false;
    nest->doubted_from = flk_thread_doubted_count();
    if (!nest->doubt_begin)
        nest->doubt_begin = flk_sequence_mark();
    nest->doubt_end = 0;
}

static void end_doubt(flk_scope_nest *nest) {
    FLK_ASSERT(!nest->is_sure && nest->doubt_begin);
    nest->doubted += flk_thread_doubted_count() - nest->doubted_from;
    nest->doubt_end = flk_sequence_mark();
}

uint64_t flk_nesting_doubted(uint32_t scope) {
    flk_scope_lock_all();
    const flk_scope_nest *nest = nest_at(scope);
    uint64_t count = nest->doubted;
    if (nest->is_open && !nest->is_sure)
        count += flk_thread_doubted_count() - nest->doubted_from;
    flk_scope_unlock_all();
    return count;
}

bool flk_nesting_doubt_span(uint32_t scope, uint64_t *begin, uint64_t *end) {
    FLK_ASSERT(begin && end);
    flk_scope_lock_all();
    const flk_scope_nest *nest = nest_at(scope);
    *begin = nest->doubt_begin;
    *end = nest->doubt_end ? nest->doubt_end : UINT64_MAX;
    flk_scope_unlock_all();
    return *begin != 0;
}

// --- the answer ----------------------------------------------------------
static void publish(void) {
    uint32_t answer = nest_at(top)->innermost;
    bool is_doubted = nest_at(answer)->below_count > 1;
    atomic_store(&flk_nesting_unclaimed,
                 answer | (is_doubted ? FLK_NESTING_DOUBT : 0));
}

// Makes the sure scopes of a root end with `last`, which is one of them.
static void draw_back(flk_scope_nest *root, uint32_t last) {
    FLK_ASSERT(root->is_root && nest_at(last)->is_sure);
    while (root->innermost != last) {
        flk_scope_nest *nest = nest_at(root->innermost);
        root->innermost = nest->above;
        begin_doubt(nest);
    }
}

static void go_down(flk_scope_nest *root) {
    FLK_ASSERT(root->is_root && root->is_open);
    const flk_scope_nest *last = nest_at(root->innermost);
    while (last->below_count == 1) {
        root->innermost = last->below_sum;
        flk_scope_nest *next = nest_at(root->innermost);
        end_doubt(next);
        next->is_sure = true;
        last = next;
    }
}

// --- open ----------------------------------------------------------------
static uint32_t place_below(uint32_t around) {
    bool is_placed = around != FLK_SCOPE_NONE && nest_at(around)->is_open &&
                     root_of(around) == top;
    return is_placed ? around : top;
}

void flk_nesting_open(uint32_t scope, uint32_t around, uint16_t opener,
                      bool is_bare) {
    flk_scope_lock_all();
    flk_scope_nest *nest = nest_at(scope), *root = nest_at(top);
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS && !nest->is_open);
    uint32_t above = place_below(around);
    *nest = (flk_scope_nest){
        .above = above, .is_open = true, .opener = opener, .is_bare = is_bare};
    nest_at(above)->below_count++;
    nest_at(above)->below_sum += scope;
    if (above == root->innermost && nest_at(above)->below_count == 1) {
        nest->is_sure = true;
        root->innermost = scope;
    } else {
        if (nest_at(above)->is_sure)
            draw_back(root, above);
        begin_doubt(nest);
    }
    publish();
    flk_scope_unlock_all();
}

void flk_nesting_open_root(uint32_t scope) {
    flk_scope_lock_all();
    flk_scope_nest *nest = nest_at(scope);
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS && !nest->is_open);
    *nest = (flk_scope_nest){.above = top,
                             .innermost = scope,
                             .is_open = true,
                             .is_root = true,
                             .is_sure = true};
    top = scope;
    publish();
    flk_scope_unlock_all();
}

// --- close -----------------------------------------------------------------
typedef struct change {
    uint32_t from, to;
} change;

static void move_up(uint32_t scope, void *context) {
    const change *moved = context;
    flk_scope_nest *nest = nest_at(scope);
    if (scope != FLK_SCOPE_PROCESS && nest->is_open &&
        nest->above == moved->from)
        nest->above = moved->to;
}

static void doubt_if_in(uint32_t scope, void *context) {
    const uint32_t *root = context;
    flk_scope_nest *nest = nest_at(scope);
    if (nest->is_open && !nest->is_root && nest->is_sure &&
        root_of(scope) == *root)
        begin_doubt(nest);
}

// The scopes below a root now lie below another one.
static void find_anew(uint32_t root) {
    flk_scope_each_held(doubt_if_in, &root);
    nest_at(root)->innermost = root;
    go_down(nest_at(root));
}

static void close_root(uint32_t scope, const flk_scope_nest *closed) {
    FLK_ASSERT(!closed->is_open && closed->is_root);
    flk_scope_nest *above = nest_at(closed->above);
    above->below_count += closed->below_count;
    above->below_sum += closed->below_sum;
    flk_scope_each_held(move_up, &(change){scope, closed->above});
    if (top == scope)
        top = closed->above;
    if (closed->below_count)
        find_anew(closed->above);
}

static void close_one(uint32_t scope, flk_scope_nest *closed) {
    FLK_ASSERT(!closed->is_open && !closed->is_root);
    flk_scope_nest *above = nest_at(closed->above);
    flk_scope_nest *root = nest_at(root_of(closed->above));
    above->below_count += closed->below_count - 1;
    above->below_sum += closed->below_sum - scope;
    if (closed->below_count)
        flk_scope_each_held(move_up, &(change){scope, closed->above});
    if (root->innermost == scope)
        root->innermost = closed->above;
    if (!closed->is_sure)
        end_doubt(closed);
    go_down(root);
}

static flk_nesting_closed close_held(uint32_t scope) {
    flk_scope_nest *nest = nest_at(scope);
    flk_nesting_closed was = {nest->is_open, nest->is_bare, nest->opener};
    if (!nest->is_open)
        return was;
    nest->is_open = false;
    if (nest->is_root)
        close_root(scope, nest);
    else
        close_one(scope, nest);
    publish();
    return was;
}

flk_nesting_closed flk_nesting_close(uint32_t scope) {
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS);
    flk_scope_lock_all();
    flk_nesting_closed was = close_held(scope);
    flk_scope_unlock_all();
    return was;
}

void flk_nesting_end(uint32_t scope) { (void)flk_nesting_close(scope); }

// --- fork ------------------------------------------------------------------
typedef struct survivors {
    uint32_t number;  // of the thread that forks
    bool has_scope;
} survivors;

static bool is_context_scope(uint32_t scope) {
    return nest_at(scope)->is_open && !nest_at(scope)->is_root;
}

static void look_for_own(uint32_t scope, void *context) {
    survivors *left = context;
    left->has_scope |=
        is_context_scope(scope) && nest_at(scope)->opener == left->number;
}

static void close_others(uint32_t scope, void *context) {
    const survivors *left = context;
    if (is_context_scope(scope) && nest_at(scope)->opener != left->number)
        (void)close_held(scope);
}

void flk_nesting_forked(uint16_t own_number) {
    survivors left = {.number = own_number};
    flk_scope_lock_all();
    flk_scope_each_held(look_for_own, &left);
    if (left.has_scope)
        flk_scope_each_held(close_others, &left);
    flk_scope_unlock_all();
}

// --- a check -----------------------------------------------------------------
typedef struct family {
    uint32_t above, count, sum;
} family;

static void add_to_family(uint32_t scope, void *context) {
    family *found = context;
    if (!is_context_scope(scope) || nest_at(scope)->above != found->above)
        return;
    found->count++;
    found->sum += scope;
}

// The answer of a root, found from its definition.
static uint32_t answer_of(uint32_t root) {
    family below = {.above = root};
    flk_scope_each_held(add_to_family, &below);
    while (below.count == 1) {
        below = (family){.above = below.sum};
        flk_scope_each_held(add_to_family, &below);
    }
    return below.above;
}

// Whether `scope` is `inner` or around it.
static bool is_around(uint32_t scope, uint32_t inner) {
    while (inner != scope && !nest_at(inner)->is_root)
        inner = nest_at(inner)->above;
    return inner == scope;
}

static void check_one(uint32_t scope, void *context) {
    bool *is_right = context;
    const flk_scope_nest *nest = nest_at(scope);
    if (!nest->is_open)
        return;
    family below = {.above = scope};
    flk_scope_each_held(add_to_family, &below);
    uint32_t answer = answer_of(root_of(scope));
    *is_right = *is_right && nest->below_count == below.count &&
                nest->below_sum == below.sum &&
                nest->is_sure == is_around(scope, answer) &&
                (scope == FLK_SCOPE_PROCESS || nest_at(nest->above)->is_open) &&
                (!nest->is_root || nest->innermost == answer);
}

bool flk_nesting_check(void) {
    bool is_right = true;
    flk_scope_lock_all();
    flk_scope_each_held(check_one, &is_right);
    uint32_t word = atomic_load(&flk_nesting_unclaimed);
    uint32_t answer = word & ~FLK_NESTING_DOUBT;
    is_right =
        is_right && answer == nest_at(top)->innermost &&
        !(word & FLK_NESTING_DOUBT) == (nest_at(answer)->below_count < 2);
    flk_scope_unlock_all();
    return is_right;
}
