// registry.c - insert, find, take, move. Contract: registry/registry.h.       SPDX-License-Identifier: MIT
#include "registry/registry.h"

#include <string.h>

#include "registry/registry_hot.h"
#include "registry/shard.h"
#include "registry/young.h"

// Whether a slot of recent blocks may have an address of this layer.
static inline bool young_has(flk_layer layer) {
    return layer == FLK_LAYER_HEAP && flk_young_is_used();
}

void flk_registry_init(void) {
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_shards[i].lock.rank = FLK_RANK_SHARD;
}

// This thread, if it is inside the guard: only then it may use its slots.
static flk_thread *guarded_thread(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    return thread && thread->inside ? thread : NULL;
}

// --- levels ------------------------------------------------------------
// Locks the shard that has a record at the address. Searches the finest level
// first.
bool flk_registry_lock_record_of(flk_held *h, uint32_t levels, flk_layer layer,
                                 uint64_t address) {
    FLK_ASSERT(h != NULL && levels < 1u << FLK_LEVELS);
    for (; levels; levels &= levels - 1) {
        flk_level level = (flk_level)__builtin_ctz(levels);
        if (flk_shard_may_hold(flk_spot_of(layer, level, address).hash) &&
            flk_lock_record_in(h, layer, level, address))
            return true;
    }
    return false;
}

void flk_registry_purge(uint32_t levels, flk_layer layer, uint64_t address,
                        flk_insertion how) {
    FLK_ASSERT(how.on_remove != NULL && how.replaced != NULL);
    flk_held h;
    while (flk_registry_lock_record_of(&h, levels, layer, address)) {
        how.on_remove(h.record, how.context);
        *how.replaced = true;
        flk_shard_remove(h.spot.shard, h.region, h.slot);
        flk_unlock_record(&h);
    }
}

// --- insert, find, take ------------------------------------------------
// The level is not a constant here. The code is short rather than fast.
FLK_NOINLINE flk_status flk_registry_insert_any(flk_layer layer,
                                                uint64_t address,
                                                const flk_record *record,
                                                flk_insertion how) {
    FLK_ASSERT(record != NULL && how.replaced != NULL);
    flk_level level = flk_level_of(address, record->size_bytes);
    flk_registry_purge(flk_levels_of(address) & ~(1u << level), layer, address,
                       how);
    return flk_insert_at(layer, level, address, record, how);
}

flk_status flk_registry_insert(flk_layer layer, uint64_t address,
                               const flk_record *record, flk_insertion how) {
    FLK_ASSERT(record != NULL && layer <= FLK_LAYER_HANDLE);
    return flk_registry_insert_hot(guarded_thread(), layer, address, record,
                                   how);
}

static FLK_HOT bool find_held(const flk_held *h, flk_record *out) {
    FLK_ASSERT(h->record != NULL && out != NULL);
    flk_record_copy(out, h->record);
    flk_unlock_record(h);
    return true;
}

static FLK_NOINLINE bool find_other(flk_layer layer, uint64_t address,
                                    flk_record *out) {
    FLK_ASSERT(out != NULL);
    uint32_t levels = flk_levels_of(address) & ~(1u << FLK_LEVEL_ALIGNED);
    flk_held h;
    return flk_registry_lock_record_of(&h, levels, layer, address) &&
           find_held(&h, out);
}

bool flk_registry_find(flk_layer layer, uint64_t address, flk_record *out) {
    FLK_ASSERT(out != NULL && layer <= FLK_LAYER_HANDLE);
    flk_held h;
    flk_thread *thread = flk_thread_hold();
    bool found = young_has(layer) && flk_young_find(thread, address, out);
    if (!found)
        found = !(address & 15) && flk_lock_record_in(
                                       &h, layer, FLK_LEVEL_ALIGNED, address)
                    ? find_held(&h, out)
                    : find_other(layer, address, out);
    flk_thread_let_go(thread);
    return found;
}

FLK_NOINLINE flk_taken flk_registry_take_other(flk_layer layer,
                                               uint64_t address,
                                               flk_registry_judge judge,
                                               void *context, flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    uint32_t levels = flk_levels_of(address) & ~(1u << FLK_LEVEL_ALIGNED);
    flk_held h;
    return flk_registry_lock_record_of(&h, levels, layer, address)
               ? flk_take_held(&h, judge, context, out)
               : FLK_ABSENT;
}

flk_taken flk_registry_take(flk_layer layer, uint64_t address,
                            flk_registry_judge judge, void *context,
                            flk_record *out) {
    FLK_ASSERT(judge != NULL && layer <= FLK_LAYER_HANDLE);
    return flk_registry_take_hot(guarded_thread(), layer, address, judge,
                                 context, out);
}

bool flk_registry_retype(flk_layer layer, uint64_t address, uint16_t type,
                         flk_registry_event on_change, void *context) {
    FLK_ASSERT(type != 0 && on_change != NULL);
    flk_held h;
    if (young_has(layer) &&
        flk_young_retype(guarded_thread(), address, type, on_change, context))
        return true;
    if (!flk_registry_lock_record_of(&h, flk_levels_of(address), layer,
                                     address))
        return false;
    on_change(h.record, context);
    h.record->type = type;
    flk_unlock_record(&h);
    return true;
}

// --- counting moves ----------------------------------------------------
static struct {
    _Alignas(64) atomic_uint watchers;  // read by each move and rarely written
    // Counted only while there are watchers; under shard locks.
    atomic_ullong moves;
} watch;

uint64_t flk_registry_watch_begin(void) {
    atomic_fetch_add(&watch.watchers, 1);
    return atomic_load(&watch.moves);
}

bool flk_registry_watch_end(uint64_t begun) {
    FLK_ASSERT(atomic_load(&watch.watchers) > 0);
    atomic_fetch_sub(&watch.watchers, 1);
    return atomic_load(&watch.moves) != begun;
}

void flk_registry_note_move(void) {
    if (FLK_UNLIKELY(atomic_load(&watch.watchers)))
        atomic_fetch_add(&watch.moves, 1);
}

// --- realloc -----------------------------------------------------------
flk_taken flk_registry_move_begin(flk_layer layer, uint64_t address,
                                  flk_registry_judge judge, void *context,
                                  flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    flk_held h;
    flk_taken taken = FLK_ABSENT;
    if (young_has(layer))
        taken = flk_young_move_begin(guarded_thread(), address, judge, context,
                                     out);
    if (taken != FLK_ABSENT || !flk_registry_lock_record_of(
                                   &h, flk_levels_of(address), layer, address))
        return taken;
    flk_record_copy(out, h.record);
    taken = judge(h.record, context) ? FLK_TAKEN : FLK_KEPT;
    if (taken == FLK_TAKEN)
        h.record->flags |= FLK_RECORD_MOVING;
    flk_unlock_record(&h);
    return taken;
}

// The moving record with this sequence number; NULL if there is none. Needs the
// shard locked.
static flk_record *moving_find(const flk_spot *s, uint64_t sequence,
                               flk_region **region, uint32_t *slot) {
    FLK_ASSERT(s != NULL && region != NULL && slot != NULL);
    *region = flk_shard_region(s);
    *slot = *region ? flk_region_next(*region, 0) : FLK_REGION_NO_SLOT;
    while (*slot != FLK_REGION_NO_SLOT) {
        flk_record *record = flk_region_record(*region, *slot);
        if (record->sequence == sequence && record->flags & FLK_RECORD_MOVING)
            return record;
        *slot = flk_region_next(*region, *slot + 1);
    }
    return NULL;
}

void flk_registry_move_cancel(flk_layer layer, uint64_t address,
                              const flk_record *moving) {
    FLK_ASSERT(moving != NULL);
    flk_spot s =
        flk_spot_of(layer, flk_level_of(address, moving->size_bytes), address);
    flk_region *region;
    uint32_t slot;
    flk_lock_take(&s.shard->lock);
    flk_record *record = moving_find(&s, moving->sequence, &region, &slot);
    FLK_ASSERT(record != NULL);
    if (young_has(layer))
        flk_young_forget_free(flk_young_number(address));
    record->flags &= (uint8_t)~FLK_RECORD_MOVING;
    flk_lock_release(&s.shard->lock);
}

// Locks two shards, which may be the same one, in the order of their indices.
static void lock_two(flk_shard *a, flk_shard *b) {
    FLK_ASSERT(a != NULL && b != NULL);
    flk_lock_take(a < b ? &a->lock : &b->lock);
    if (a != b)
        flk_lock_take(a < b ? &b->lock : &a->lock);
}

static void unlock_two(flk_shard *a, flk_shard *b) {
    FLK_ASSERT(a != NULL && b != NULL);
    flk_lock_release(&a->lock);
    if (a != b)
        flk_lock_release(&b->lock);
}

// Removes the moving record and inserts it at its new place. Needs both shards
// locked.
static flk_status move_locked(const flk_spot *from, const flk_spot *to,
                              flk_level to_level, uint64_t sequence,
                              uint64_t size_bytes, flk_insertion how) {
    FLK_ASSERT(to_level < FLK_LEVELS);
    flk_region *region;
    uint32_t slot;
    flk_record *old = moving_find(from, sequence, &region, &slot);
    FLK_ASSERT(old != NULL);
    flk_registry_note_move();
    flk_record record = *old;
    record.flags &= (uint8_t)~FLK_RECORD_MOVING;
    flk_shard_remove(from->shard, region, slot);
    flk_record before = record;
    record.size_bytes = size_bytes & FLK_SIZE_MAX;
    flk_status status = FLK_LIMIT;  // a size that no record can hold
    if (size_bytes <= FLK_SIZE_MAX)
        status = flk_insert_locked(to, to_level, &record, how);
    if (status != FLK_OK)
        how.on_remove(&before, how.context);
    return status;
}

flk_status flk_registry_move(flk_layer layer, uint64_t old_address,
                             const flk_record *moving, uint64_t new_address,
                             uint64_t size_bytes, flk_insertion how) {
    FLK_ASSERT(moving != NULL && how.replaced != NULL);
    FLK_ASSERT(how.on_insert != NULL && how.on_remove != NULL);
    flk_level from_level = flk_level_of(old_address, moving->size_bytes);
    flk_level to_level = flk_level_of(new_address, size_bytes);
    *how.replaced = false;
    uint64_t number = flk_young_number(new_address);
    if (young_has(layer) &&
        flk_young_is_at(flk_young_key_of(flk_young_slot_of(number)), number))
        flk_young_clear(guarded_thread(), number, how);
    flk_registry_purge(flk_levels_of(new_address) & ~(1u << to_level), layer,
                       new_address, how);
    flk_spot from = flk_spot_of(layer, from_level, old_address);
    flk_spot to = flk_spot_of(layer, to_level, new_address);
    lock_two(from.shard, to.shard);
    flk_status status =
        move_locked(&from, &to, to_level, moving->sequence, size_bytes, how);
    unlock_two(from.shard, to.shard);
    return status;
}

// --- which block contains this address ---------------------------------
// For each level: the number of regions before the region of an address in which
// a block that contains the address can start.
static const uint8_t regions_back[FLK_LEVELS] = {1, 4, 1, 1, 1, 1};

// Finds the record of the region that starts nearest below the address and
// contains it. A nearer one in `out` is kept.
static void containing_in(const flk_region *region, flk_layer layer,
                          uint64_t address, flk_entry *out, bool *found) {
    FLK_ASSERT(out != NULL && found != NULL);
    for (uint32_t i = flk_region_next(region, 0); i != FLK_REGION_NO_SLOT;
         i = flk_region_next(region, i + 1)) {
        const flk_record *record = flk_region_record(region, i);
        uint64_t start = flk_region_address(region, i);
        // Another block may be at the address of a moving record now.
        if (start >= address || address - start >= record->size_bytes ||
            record->flags & FLK_RECORD_MOVING)
            continue;
        if (*found && start <= out->address)
            continue;
        *out = (flk_entry){start, *record, layer};
        *found = true;
    }
}

// Looks among the recent blocks too; the nearest one that begins below counts.
static bool containing_young(uint64_t address, bool found, flk_entry *out) {
    FLK_ASSERT(out != NULL);
    flk_entry young;
    flk_thread *thread = flk_thread_hold();
    if (flk_young_containing(thread, address, &young) &&
        (!found || young.address > out->address)) {
        *out = young;
        found = true;
    }
    flk_thread_let_go(thread);
    return found;
}

bool flk_registry_containing(flk_layer layer, uint64_t address,
                             flk_entry *out) {
    FLK_ASSERT(out != NULL && layer <= FLK_LAYER_HANDLE);
    bool found = false;
    uint32_t used =
        atomic_load_explicit(&flk_levels_used, memory_order_relaxed);
    for (uint32_t left = used; left; left &= left - 1) {
        uint32_t l = (uint32_t)__builtin_ctz(left);
        uint64_t own = flk_region_number((flk_level)l, address);
        for (uint64_t back = 0; back <= regions_back[l] && back <= own;
             back++) {
            flk_spot s = flk_spot_of_region(layer, (flk_level)l, own - back);
            if (!flk_shard_may_hold(s.hash))
                continue;
            flk_thread_lock(&s.shard->lock);
            flk_region *region = flk_shard_region(&s);
            if (region)
                containing_in(region, layer, address, out, &found);
            flk_thread_unlock(&s.shard->lock);
        }
    }
    return young_has(layer) ? containing_young(address, found, out) : found;
}

// --- visits ------------------------------------------------------------
// Visits the records of a shard, which is locked, from a sequence number on.
// Changes of a record are kept.
static void visit_locked(flk_shard *sh, uint64_t since,
                         flk_registry_visitor visit, void *context) {
    FLK_ASSERT(visit != NULL);
    FLK_ASSERT(sh->region_count <= sh->capacity);
    for (uint32_t i = 0; i < sh->capacity; i++) {
        const flk_region *region = &sh->regions[i];
        if (!region->key)
            continue;
        for (uint32_t slot = flk_region_next(region, 0);
             slot != FLK_REGION_NO_SLOT;
             slot = flk_region_next(region, slot + 1)) {
            flk_record *record = flk_region_record(region, slot);
            if (record->sequence < since)
                continue;
            flk_entry entry = {flk_region_address(region, slot), *record,
                               flk_region_layer(region)};
            visit(&entry, context);
            *record = entry.record;
        }
    }
}

// The recent blocks come first: a record moves from them to a shard, never back.
static void visit_young(uint64_t since, flk_registry_visitor visit,
                        void *context) {
    flk_young_stop();
    flk_young_visit_stopped(since, visit, context);
    flk_young_go();
}

void flk_registry_visit_shard(uint32_t shard_index, flk_registry_visitor visit,
                              void *context) {
    FLK_ASSERT(shard_index < FLK_SHARDS && visit != NULL);
    if (shard_index == 0)
        visit_young(0, visit, context);
    flk_shard *sh = &flk_shards[shard_index];
    flk_thread_lock(&sh->lock);
    visit_locked(sh, 0, visit, context);
    flk_thread_unlock(&sh->lock);
}

void flk_registry_visit_touched(uint32_t shard_index, uint64_t since,
                                flk_registry_visitor visit, void *context) {
    FLK_ASSERT(shard_index < FLK_SHARDS && visit != NULL);
    if (shard_index == 0)
        visit_young(since, visit, context);
    flk_shard *sh = &flk_shards[shard_index];
    flk_thread_lock(&sh->lock);
    if (sh->is_touched)
        visit_locked(sh, since, visit, context);
    flk_thread_unlock(&sh->lock);
}

// Guarded by the locks of all shards.
static uint32_t followers;

void flk_registry_follow_begin(void) {
    flk_registry_lock_all();
    FLK_ASSERT(followers < UINT32_MAX);
    if (!followers++)
        for (uint32_t i = 0; i < FLK_SHARDS; i++)
            flk_shards[i].is_touched = false;
    flk_registry_unlock_all();
}

void flk_registry_follow_end(void) {
    flk_registry_lock_all();
    FLK_ASSERT(followers > 0);
    followers--;
    flk_registry_unlock_all();
}

void flk_registry_visit_held(flk_registry_visitor visit, void *context) {
    FLK_ASSERT(visit != NULL);
    flk_young_visit_stopped(0, visit, context);
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        visit_locked(&flk_shards[i], 0, visit, context);
}

static uint64_t young_count(void) {
    flk_young_stop();
    uint64_t count = flk_young_count_stopped();
    flk_young_go();
    return count;
}

uint64_t flk_registry_shard_count(uint32_t shard_index) {
    FLK_ASSERT(shard_index < FLK_SHARDS);
    uint64_t count = shard_index == 0 ? young_count() : 0;
    flk_shard *sh = &flk_shards[shard_index];
    flk_thread_lock(&sh->lock);
    count += sh->record_count;
    flk_thread_unlock(&sh->lock);
    return count;
}

static bool shard_holds(const flk_shard *sh, flk_layer layer) {
    FLK_ASSERT(sh->region_count <= sh->capacity);
    for (uint32_t i = 0; i < sh->capacity; i++) {
        const flk_region *region = &sh->regions[i];
        if (region->key && flk_region_layer(region) == (uint32_t)layer &&
            flk_region_next(region, 0) != FLK_REGION_NO_SLOT)
            return true;
    }
    return false;
}

bool flk_registry_holds(flk_layer layer) {
    FLK_ASSERT(layer != 0 && layer <= FLK_LAYER_HANDLE);
    bool holds = layer == FLK_LAYER_HEAP && young_count() > 0;
    for (uint32_t i = 0; i < FLK_SHARDS && !holds; i++) {
        flk_shard *sh = &flk_shards[i];
        flk_thread_lock(&sh->lock);
        holds = sh->record_count > 0 && shard_holds(sh, layer);
        flk_thread_unlock(&sh->lock);
    }
    return holds;
}

// --- self-statistics and checks ----------------------------------------
static void stats_add(const flk_shard *sh, flk_registry_stats *out) {
    FLK_ASSERT(sh->region_count <= sh->capacity);
    out->record_count += sh->record_count;
    out->region_count += sh->region_count;
    if (sh->longest_move > out->longest_move)
        out->longest_move = sh->longest_move;
    for (uint32_t i = 0; i < sh->capacity; i++)
        if (sh->regions[i].key)
            out->record_capacity += flk_region_capacity(&sh->regions[i]);
}

void flk_registry_read_stats(flk_registry_stats *out) {
    FLK_ASSERT(out != NULL);
    memset(out, 0, sizeof *out);
    out->record_count = young_count();
    for (uint32_t i = 0; i < FLK_SHARDS; i++) {
        flk_thread_lock(&flk_shards[i].lock);
        stats_add(&flk_shards[i], out);
        flk_thread_unlock(&flk_shards[i].lock);
    }
}

bool flk_registry_check(void) {
    bool good = true;
    flk_registry_lock_all();
    uint32_t used = atomic_load(&flk_levels_used);
    for (uint32_t i = 0; i < FLK_SHARDS; i++) {
        const flk_shard *sh = &flk_shards[i];
        good &= flk_shard_check(&flk_shards[i]);
        for (uint32_t j = 0; j < sh->capacity; j++)
            if (sh->regions[j].key)
                good &= used >> flk_region_level(&sh->regions[j]) & 1;
    }
    good = good && flk_young_check_held();
    flk_registry_unlock_all();
    return good;
}

void flk_registry_lock_all(void) {
    flk_young_stop();
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_thread_lock(&flk_shards[i].lock);
}

void flk_registry_unlock_all(void) {
    for (uint32_t i = FLK_SHARDS; i-- > 0;)
        flk_thread_unlock(&flk_shards[i].lock);
    flk_young_go();
}

void flk_registry_alone(void) { flk_young_alone(); }
