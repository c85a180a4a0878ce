// context.c - contexts and scopes. Contract: tracker/context.h.              SPDX-License-Identifier: MIT
#include "tracker/context.h"

#include "base/config.h"
#include "base/platform.h"
#include "registry/nesting.h"
#include "registry/registry.h"
#include "registry/scope.h"
#include "tracker/tracker.h"

// A scope is counted here before its context is visible to other code, and
// until the scope ends. Therefore a thread that reads 0 has no context scope.
atomic_int flk_contexts_open;

static struct {
    atomic_ullong unread;   // relaxed, reports only
    atomic_ullong cleared;  // flk_thread_doubted_count() when it was cleared
} contexts;

// --- the context of this thread ------------------------------------------
static void remember(flk_thread *thread, const flk_context_mark *mark,
                     uint32_t scope, bool is_entered) {
    FLK_ASSERT(thread->inside);
    FLK_ASSERT(scope == FLK_SCOPE_NONE || scope < FLK_SCOPES_MAX);
    thread->context = *mark;
    thread->context_scope = scope;
    thread->context_serial =
        scope == FLK_SCOPE_NONE ? 0 : flk_scope_serial(scope);
    thread->is_context_entered = is_entered;
}

// False: the context cannot be read.
static FLK_NOINLINE bool learn(flk_thread *thread, const flk_context_mark *mark,
                               bool is_attached) {
    flk_context_value value = {.is_set = false};
    if (mark->context && !flk_pycontext_find(&value, is_attached))
        return false;
    remember(thread, mark, value.is_set ? value.number : FLK_SCOPE_NONE,
             value.is_entered);
    return true;
}

static inline bool is_known(flk_thread *thread, const flk_context_mark *mark,
                            bool is_attached) {
    return FLK_LIKELY(flk_pycontext_is_same(mark, &thread->context)) ||
           learn(thread, mark, is_attached);
}

void flk_context_set(uint32_t scope, bool is_attached) {
    FLK_ASSERT(scope == FLK_SCOPE_NONE || scope < FLK_SCOPES_MAX);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    flk_context_mark mark;
    if (!flk_pycontext_look(&mark, is_attached))
        mark = (flk_context_mark){.state_id = 0};
    bool is_entered =
        !is_known(thread, &mark, is_attached) || thread->is_context_entered;
    remember(thread, &mark, scope, is_entered);
    flk_thread_leave(thread);
}

// --- rules ---------------------------------------------------------------
static uint32_t without_scope(const flk_thread *thread, bool is_entered) {
    uint32_t opened =
        atomic_load_explicit(&thread->opened, memory_order_relaxed);
    uint32_t bare =
        atomic_load_explicit(&thread->opened_bare, memory_order_relaxed);
    bool is_outside = opened > 0 && (is_entered || bare == 0);
    return is_outside ? FLK_SCOPE_NONE : FLK_SCOPE_UNCLAIMED;
}

uint32_t flk_context_without_scope(void) {
    const flk_thread *thread = flk_platform_thread_pointer();
    if (!flk_context_is_open())
        return FLK_SCOPE_NONE;
    return thread ? without_scope(thread, true) : FLK_SCOPE_UNCLAIMED;
}

uint32_t flk_context_scope(flk_thread *thread, bool is_attached) {
    FLK_ASSERT(thread != NULL && thread->inside);
    flk_context_mark mark;
    if (!flk_context_is_open())
        return FLK_SCOPE_NONE;
    if (!flk_pycontext_look(&mark, is_attached))
        return FLK_SCOPE_UNCLAIMED;
    if (FLK_UNLIKELY(!is_known(thread, &mark, is_attached))) {
        atomic_fetch_add_explicit(&contexts.unread, 1, memory_order_relaxed);
        return FLK_SCOPE_NONE;
    }
    if (thread->context_scope == FLK_SCOPE_NONE)
        return without_scope(thread, thread->is_context_entered);
    uint32_t scope =
        flk_scope_open_ancestor(thread->context_scope, thread->context_serial);
    return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : scope;
}

uint32_t flk_context_here(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return FLK_SCOPE_NONE;
    uint32_t scope = flk_context_scope(thread, false);
    flk_thread_leave(thread);
    return scope;
}

// --- open and close --------------------------------------------------------
void flk_context_count(int change) {
    FLK_ASSERT(change == 1 || change == -1);
    atomic_fetch_add_explicit(&flk_contexts_open, change, memory_order_relaxed);
}

// Whether the context of this thread is that of a thread or a greenlet.
static bool is_bare(flk_thread *thread, bool is_attached) {
    flk_context_mark mark;
    return flk_pycontext_look(&mark, is_attached) &&
           is_known(thread, &mark, is_attached) && !thread->is_context_entered;
}

void flk_context_open(uint32_t scope, uint32_t around, bool is_attached) {
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS && flk_context_is_open());
    if (scope == FLK_SCOPE_NONE)
        return;
    flk_thread *thread = flk_thread_hold();
    bool bare = thread && is_bare(thread, is_attached);
    if (thread)
        flk_thread_scope_opened(thread, bare);
    flk_nesting_open(scope, around, thread ? (uint16_t)thread->number : 0,
                     bare);
    flk_thread_let_go(thread);
}

void flk_context_close(uint32_t scope) {
    FLK_ASSERT(scope != FLK_SCOPE_PROCESS);
    if (scope != FLK_SCOPE_NONE) {
        flk_nesting_closed was = flk_nesting_close(scope);
        if (was.was_open)
            flk_thread_scope_closed(was.opener, was.was_bare);
    }
    flk_context_count(-1);
}

// --- figures ---------------------------------------------------------------
uint64_t flk_context_unread(void) { return atomic_load(&contexts.unread); }

uint64_t flk_context_unknown(void) {
    return flk_context_unread() + flk_thread_doubted_count() -
           atomic_load(&contexts.cleared);
}

void flk_context_clear(void) {
    atomic_store(&contexts.unread, 0);
    atomic_store(&contexts.cleared, flk_thread_doubted_count());
}

void flk_context_forked(void) {
    flk_thread *thread = flk_thread_hold();
    if (thread)
        flk_nesting_forked((uint16_t)thread->number);
    flk_context_clear();
    flk_thread_let_go(thread);
}

uint64_t flk_context_doubted(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    return flk_nesting_doubted(scope);
}

typedef struct doubt_search {
    uint32_t scope;
    uint64_t begin, end, count;
} doubt_search;

static void count_doubted(flk_entry *entry, void *context) {
    FLK_ASSERT(entry != NULL && context != NULL);
    doubt_search *search = context;
    const flk_record *record = &entry->record;
    bool may_be_its = record->is_doubted && record->sequence >= search->begin &&
                      record->sequence < search->end &&
                      flk_tracker_is_shown(record, false);
    // What was given to a scope below it is in its view.
    if (may_be_its &&
        !flk_scope_is_within((uint32_t)record->scope, search->scope))
        search->count++;
}

uint64_t flk_context_doubted_live(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    doubt_search search = {.scope = scope};
    if (!flk_nesting_doubt_span(scope, &search.begin, &search.end))
        return 0;
    flk_thread *thread = flk_thread_hold();
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, count_doubted, &search);
    flk_thread_let_go(thread);
    return search.count;
}
