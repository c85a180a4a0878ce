// flk_hookdrop.c - drops what the hooks have recorded. Contract: flk_attach.h.  SPDX-License-Identifier: MIT
#include "flk_attach.h"
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include <string.h>

#include "flk_config.h"
#include "flk_names.h"
#include "flk_tracker.h"

enum { BATCH = 128 };

typedef struct batch {
    uint32_t count;
    flk_entry entries[BATCH];
} batch;

// With the shard locked.
static void pick(flk_entry *entry, void *context) {
    batch *b = context;
    if (b->count < BATCH && !(entry->record.flags & FLK_RECORD_MOVING) &&
        strcmp(flk_names_at(entry->record.type)->kind, FLK_HOOK_KIND) == 0)
        b->entries[b->count++] = *entry;
}

static uint64_t drop_of_shard(uint32_t shard_index) {
    batch b;
    uint64_t dropped = 0;
    do {
        b.count = 0;
        flk_thread *thread = flk_thread_enter();
        if (!thread)
            break;
        flk_registry_visit_shard(shard_index, pick, &b);
        flk_thread_leave(thread);
        for (uint32_t i = 0; i < b.count; i++) {
            const flk_entry *e = &b.entries[i];
            flk_record record;
            dropped += flk_tracker_on_free((flk_layer)e->layer, e->address, 0,
                                           &record) == FLK_TAKEN;
        }
    } while (b.count == BATCH);
    return dropped;
}

uint64_t flk_attach_drop(void) {
    uint64_t dropped = 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        dropped += drop_of_shard(i);
    return dropped;
}
#endif
