// growth.c - what calls left, without a look at the rest. Contract: api/growth.h.   SPDX-License-Identifier: MIT
#include "api/growth.h"

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"
#include "base/sequence.h"

enum { PLACES_A_BLOCK = 2 };

typedef struct query {
    const flk_growth *growth;
    const uint64_t *edges;
    size_t spans;
} query;

static size_t bytes_of(size_t capacity) {
    return flk_platform_pages_for(capacity * sizeof(flk_older));
}

// The place of the block, or the empty place where it belongs.
static flk_older *place_of(const flk_growth *growth, uint64_t sequence) {
    FLK_ASSERT(growth->older && sequence);
    size_t mask = growth->capacity - 1;
    size_t i = flk_hash_mix(sequence) & mask;
    while (growth->older[i].sequence && growth->older[i].sequence != sequence)
        i = (i + 1) & mask;
    return &growth->older[i];
}

static bool keep_sizes(flk_growth *growth) {
    flk_snapshot all;
    if (!flk_snapshot_collect(FLK_SCOPE_PROCESS, 0, false, &all))
        return false;
    size_t capacity = 64;
    while (capacity < all.count * PLACES_A_BLOCK)
        capacity *= 2;
    growth->older =
        flk_platform_pages_map(bytes_of(capacity), flk_platform_page_bytes());
    growth->capacity = growth->older ? capacity : 0;
    for (size_t i = 0; growth->older && i < all.count; i++)
        *place_of(growth, all.blocks[i].sequence) =
            (flk_older){all.blocks[i].sequence, all.blocks[i].size_bytes};
    flk_snapshot_drop(&all);
    return growth->older != NULL;
}

bool flk_growth_begin(bool with_older, flk_growth *out) {
    FLK_ASSERT(out);
    memset(out, 0, sizeof *out);
    // A record that is made after the mark touches its shard after this.
    flk_registry_follow_begin();
    if (with_older && !keep_sizes(out)) {
        flk_registry_follow_end();
        return false;
    }
    out->begun = flk_sequence_mark();
    return true;
}

void flk_growth_end(flk_growth *growth) {
    FLK_ASSERT(growth && growth->begun);
    if (growth->older)
        flk_platform_pages_unmap(growth->older, bytes_of(growth->capacity));
    memset(growth, 0, sizeof *growth);
    flk_registry_follow_end();
}

// Whether the number is in a span: the edges up to it are odd in number.
static bool is_in_span(const query *q, uint64_t sequence) {
    FLK_ASSERT(q->edges || q->spans == 0);
    size_t low = 0, high = 2 * q->spans;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (q->edges[middle] <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low & 1;
}

static bool takes(const flk_record *record, const void *context) {
    const query *q = context;
    FLK_ASSERT(record && q);
    if (record->sequence >= q->growth->begun)
        return is_in_span(q, record->sequence);
    if (!q->growth->older)
        return false;
    const flk_older *older = place_of(q->growth, record->sequence);
    return older->sequence && older->size_bytes != record->size_bytes;
}

bool flk_growth_collect(const flk_growth *growth, const uint64_t *edges,
                        size_t spans, flk_snapshot *out) {
    FLK_ASSERT(growth && growth->begun && out);
    query q = {growth, edges, spans};
    flk_choice choice = {.view = FLK_SCOPE_PROCESS,
                         .is_touched = true,
                         .since = growth->older ? 0 : growth->begun,
                         .takes = takes,
                         .context = &q};
    return flk_snapshot_choose(&choice, out);
}

uint64_t flk_growth_first_size(const flk_growth *growth, uint64_t sequence) {
    FLK_ASSERT(growth && growth->begun);
    if (!growth->older || !sequence)
        return 0;
    return place_of(growth, sequence)->size_bytes;
}
