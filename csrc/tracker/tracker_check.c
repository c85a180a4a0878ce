// tracker_check.c - the counts against the records. Contract: tracker/tracker.h.  SPDX-License-Identifier: MIT
#include "base/arena.h"
#include "base/config.h"
#include "paths/callpath.h"
#include "paths/modules.h"
#include "paths/sites.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/nesting.h"
#include "registry/object_table.h"
#include "registry/references.h"
#include "registry/scope.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

typedef struct tally {
    uint64_t count, bytes;
} tally;

// Sums over the records, for each type and for each scope with its descendants.
typedef struct tallies {
    tally types[FLK_TYPES_MAX + 1];
    tally scopes[FLK_SCOPES_MAX];
    bool agree;
} tallies;

static void tally_add(tally *t, uint64_t size_bytes) {
    FLK_ASSERT(t != NULL);
    t->count++;
    t->bytes += size_bytes;
}

static void add_up(flk_entry *entry, void *context) {
    FLK_ASSERT(entry != NULL && context != NULL);
    tallies *t = context;
    const flk_record *record = &entry->record;
    if (!flk_tracker_is_shown(record, false))
        return;
    tally_add(&t->types[record->type], record->size_bytes);
    for (uint32_t s = (uint32_t)record->scope; s != FLK_SCOPE_NONE;
         s = flk_scope_parent(s))
        tally_add(&t->scopes[s], record->size_bytes);
}

static bool is_same_sum(const tally *t, const flk_sum *sum) {
    FLK_ASSERT(t != NULL && sum != NULL);
    return sum->alloc_count - sum->free_count == t->count &&
           sum->alloc_bytes - sum->free_bytes == t->bytes;
}

static void compare_scope(uint32_t scope, void *context) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX && context != NULL);
    tallies *t = context;
    flk_sum sum;
    flk_account_scope(scope, &sum);
    t->agree &= is_same_sum(&t->scopes[scope], &sum);
}

static void compare(tallies *t) {
    FLK_ASSERT(t != NULL);
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, add_up, t);
    for (uint32_t type = 1; type <= flk_names_count(); type++) {
        flk_sum sum;
        flk_account_type(type, &sum);
        t->agree &= is_same_sum(&t->types[type], &sum);
    }
    flk_scope_lock_all();
    flk_scope_each_held(compare_scope, t);
    flk_scope_unlock_all();
}

// No events may occur during the call, since the counters are read after the
// registry.
static bool counters_agree(void) {
    size_t bytes = flk_platform_pages_for(sizeof(tallies));
    // Pages use memory only when touched.
    tallies *t = flk_platform_pages_map(bytes, flk_platform_page_bytes());
    if (!t)
        return false;
    t->agree = true;
    compare(t);
    bool agree = t->agree;
    flk_platform_pages_unmap(t, bytes);
    return agree;
}

static bool all_sound(void) {
    return counters_agree() && flk_registry_check() && flk_nesting_check() &&
           flk_callpath_check() && flk_modules_check() && flk_sites_check() &&
           flk_names_check() && flk_recent_check() &&
           flk_object_table_check() && flk_references_check() &&
           flk_arena_check();
}

bool flk_tracker_check(void) {
    flk_thread *thread = flk_thread_hold();
    bool sound = all_sound();
    flk_thread_let_go(thread);
    return sound;
}
