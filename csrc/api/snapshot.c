// snapshot.c - collects live records and sorts them. Contract: api/snapshot.h.             SPDX-License-Identifier: MIT
#include "api/snapshot.h"

#include <string.h>

#include "base/config.h"
#include "base/sequence.h"
#include "registry/scope.h"
#include "tracker/quarantine.h"

// Attempts that lock one shard at a time, before all shards are locked.
enum { SHARDWISE_ATTEMPTS = 3 };

typedef struct collector {
    flk_choice choice;
    uint64_t until;  // the sequence number at the start
    flk_block *blocks;
    size_t count, capacity;
} collector;

static size_t bytes_for(size_t count) {
    return flk_platform_pages_for(count * sizeof(flk_block));
}

static void collect(flk_entry *entry, void *context) {
    collector *c = context;
    const flk_record *record = &entry->record;
    FLK_ASSERT(entry->address && record->sequence);
    const flk_choice *choice = &c->choice;
    if (record->sequence < choice->since || record->sequence >= c->until ||
        !flk_tracker_is_shown(record, choice->inherited) ||
        !flk_scope_is_within((uint32_t)record->scope, choice->view))
        return;
    if (choice->takes && !choice->takes(record, choice->context))
        return;
    if (c->count < c->capacity)
        c->blocks[c->count] = flk_quarantine_block_of((flk_layer)entry->layer,
                                                      entry->address, record);
    c->count++;  // beyond the capacity it only counts
}

static bool grow_to(collector *c, size_t capacity) {
    FLK_ASSERT(capacity >= c->count);
    flk_block *grown =
        flk_platform_pages_map(bytes_for(capacity), flk_platform_page_bytes());
    if (!grown)
        return false;
    if (c->blocks) {
        memcpy(grown, c->blocks, c->count * sizeof *grown);
        flk_platform_pages_unmap(c->blocks, bytes_for(c->capacity));
    }
    c->blocks = grown;
    c->capacity = capacity;
    return true;
}

// Visits the shard again after growing, if it did not fit. False: no memory.
static bool collect_shard(collector *c, uint32_t shard_index) {
    FLK_ASSERT(shard_index < FLK_SHARDS && c->count <= c->capacity);
    for (;;) {
        size_t before = c->count;
        if (c->choice.is_touched)
            flk_registry_visit_touched(shard_index, c->choice.since, collect,
                                       c);
        else
            flk_registry_visit_shard(shard_index, collect, c);
        if (c->count <= c->capacity)
            return true;
        size_t wanted = c->count + c->count / 2;
        c->count = before;
        if (!grow_to(c, wanted))
            return false;
    }
}

// Bottom-up merge sort by sequence; returns the buffer that holds the result.
static flk_block *sort(flk_block *blocks, flk_block *spare, size_t count) {
    FLK_ASSERT(blocks && spare && blocks != spare);
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t low = 0; low < count; low += 2 * width) {
            size_t middle = low + width < count ? low + width : count;
            size_t high = middle + width < count ? middle + width : count;
            size_t left = low, right = middle;
            for (size_t i = low; i < high; i++) {
                bool take_left = left < middle &&
                                 (right >= high || blocks[left].sequence <=
                                                       blocks[right].sequence);
                spare[i] = blocks[take_left ? left++ : right++];
            }
        }
        flk_block *swap = blocks;
        blocks = spare;
        spare = swap;
    }
    return blocks;
}

static bool collect_by_shard(collector *c) {
    FLK_ASSERT(c->blocks && c->capacity > 0);
    bool good = true;
    c->count = 0;
    for (uint32_t i = 0; good && i < FLK_SHARDS; i++)
        good = collect_shard(c, i);
    return good;
}

// While all shards are locked, no block can move. False: no memory.
static bool collect_at_once(collector *c) {
    FLK_ASSERT(c->blocks);
    bool good = true;
    flk_registry_lock_all();
    for (;;) {
        c->count = 0;
        flk_registry_visit_held(collect, c);
        if (c->count <= c->capacity)
            break;
        size_t wanted = c->count;
        c->count = 0;
        if (!(good = grow_to(c, wanted)))
            break;
    }
    flk_registry_unlock_all();
    return good;
}

// A block that moves between two shards could be missed or copied twice. Then
// the copy is made again.
static bool collect_all(collector *c) {
    for (int attempt = 0; attempt < SHARDWISE_ATTEMPTS; attempt++) {
        uint64_t watch = flk_registry_watch_begin();
        bool good = collect_by_shard(c);
        bool moved = flk_registry_watch_end(watch);
        if (!good || !moved)
            return good;
    }
    return collect_at_once(c);
}

static size_t expected_count(const flk_choice *choice) {
    uint64_t expected = 64;
    if (choice->takes)
        return expected;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        expected += flk_registry_shard_count(i);
    return expected;
}

bool flk_snapshot_choose(const flk_choice *choice, flk_snapshot *out) {
    FLK_ASSERT(out && choice);
    FLK_ASSERT(choice->view == FLK_SCOPE_NONE || choice->view < FLK_SCOPES_MAX);
    collector c = {.choice = *choice, .until = flk_sequence_mark()};
    memset(out, 0, sizeof *out);
    out->taken_wall_ns = flk_sequence_wall_time(c.until);
    flk_block *spare = NULL;
    if (grow_to(&c, expected_count(choice)) && collect_all(&c))
        spare = flk_platform_pages_map(bytes_for(c.capacity),
                                       flk_platform_page_bytes());
    if (!spare) {
        if (c.blocks)
            flk_platform_pages_unmap(c.blocks, bytes_for(c.capacity));
        return false;
    }
    out->blocks = sort(c.blocks, spare, c.count);
    FLK_ASSERT(c.count <= c.capacity);
    out->count = c.count;
    out->mapped_bytes = bytes_for(c.capacity);
    flk_platform_pages_unmap(out->blocks == spare ? c.blocks : spare,
                             out->mapped_bytes);
    return true;
}

bool flk_snapshot_collect(uint32_t view, uint64_t since, bool inherited,
                          flk_snapshot *out) {
    FLK_ASSERT(out && (view == FLK_SCOPE_NONE || view < FLK_SCOPES_MAX));
    flk_choice choice = {.view = view, .inherited = inherited, .since = since};
    return flk_snapshot_choose(&choice, out);
}

void flk_snapshot_hide(flk_snapshot *snapshot) {
    FLK_ASSERT(snapshot && (snapshot->blocks || snapshot->count == 0));
    for (size_t i = 0; i < snapshot->count; i++)
        snapshot->blocks[i].address = ~snapshot->blocks[i].address;
}

void flk_snapshot_drop(flk_snapshot *snapshot) {
    FLK_ASSERT(snapshot);
    if (snapshot->blocks)
        flk_platform_pages_unmap(snapshot->blocks, snapshot->mapped_bytes);
    memset(snapshot, 0, sizeof *snapshot);
}
