// flk_heapresize.c - reallocate. Contract: flk_heap.h.                       SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "flk_guard.h"
#include "flk_heap.h"
#include "flk_misuse.h"
#include "flk_observe.h"
#include "flk_quarantine.h"

// --- realloc -----------------------------------------------------------
static void *c_reallocate(void *address, size_t size_bytes,
                          const flk_record *record) {
    if (!(record->flags & FLK_RECORD_GUARDED))
        return realloc(address, size_bytes);
    size_t guard = FLK_SETTING(guard_bytes);
    if (size_bytes > SIZE_MAX - 2 * guard)
        return NULL;
    char *memory = realloc((char *)address - guard, size_bytes + 2 * guard);
    if (!memory)
        return NULL;
    flk_guard_fill(memory + guard, size_bytes, guard);
    return memory + guard;
}

static void *reallocate_recorded(void *address, size_t size_bytes,
                                 const flk_record *moving, uint32_t path,
                                 flk_misuse *out) {
    out->verdict = FLK_FREED;
    if (moving->flags & FLK_RECORD_GUARDED &&
        flk_quarantine_check_guard(address, moving, path, out) < 0) {
        // Told once: the guards are whole again for another try.
        flk_guard_fill(address, moving->size_bytes, FLK_SETTING(guard_bytes));
        flk_tracker_move_cancel(FLK_LAYER_HEAP, (uintptr_t)address, moving);
        return NULL;
    }
    void *moved = c_reallocate(address, size_bytes, moving);
    if (!moved) {
        flk_tracker_move_cancel(FLK_LAYER_HEAP, (uintptr_t)address, moving);
        out->verdict = FLK_NO_ROOM;
        return NULL;
    }
    if (flk_tracker_move_end(FLK_LAYER_HEAP, (uintptr_t)address, moving,
                             (uintptr_t)moved, size_bytes) ||
        !(moving->flags & FLK_RECORD_GUARDED))
        return moved;
    // Its record is lost, so nobody would know of the guard: a plain block.
    char *memory = (char *)moved - FLK_SETTING(guard_bytes);
    return memmove(memory, moved, size_bytes);
}

static void *reallocate_unrecorded(void *address, size_t size_bytes,
                                   const flk_origin *origin,
                                   flk_misuse *out) {
    out->verdict = FLK_NOT_RECORDED;
    if (FLK_SETTING(ever_enabled)) {
        out->verdict = flk_heap_judge((uintptr_t)address, origin->path, out);
        if (out->verdict < 0)
            return NULL;
    }
    void *moved = realloc(address, size_bytes);
    if (!moved)
        out->verdict = FLK_NO_ROOM;
    else if (flk_tracker_is_enabled() &&
             origin->scope != FLK_SCOPE_NOWHERE)
        flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)moved, size_bytes, 0,
                             origin);
    return moved;
}

static void *reallocate_block(void *address, size_t size_bytes,
                              const flk_origin *origin, flk_misuse *out);

// Nothing was ever recorded, or somebody observes: a block that changes its
// size is told as one that goes and one that comes.
static FLK_NOINLINE void *reallocate_unusually(void *address,
                                               size_t size_bytes,
                                               const flk_origin *origin,
                                               flk_misuse *out) {
    if (!FLK_SETTING(ever_enabled))
        return reallocate_unrecorded(address, size_bytes, origin, out);
    flk_record before;
    bool was_recorded = flk_registry_find(FLK_LAYER_HEAP, (uintptr_t)address,
                                          &before);
    void *moved = reallocate_block(address, size_bytes, origin, out);
    if (moved) {
        if (was_recorded)
            flk_observe_freed(FLK_LAYER_HEAP, (uintptr_t)address, &before);
        flk_observe_made(FLK_LAYER_HEAP, (uintptr_t)moved);
    }
    return moved;
}

void *flk_heap_reallocate(void *address, size_t size_bytes,
                          const flk_origin *origin, flk_misuse *out) {
    *out = (flk_misuse){.verdict = FLK_FREED};
    if (!address) {
        void *made = flk_heap_allocate(size_bytes, 0, false, origin);
        out->verdict = made ? FLK_FREED : FLK_NO_ROOM;
        return made;
    }
    if (size_bytes == 0) {
        out->verdict = flk_heap_free(address, origin->type, origin->path, out);
        return NULL;
    }
    if (FLK_UNLIKELY(!FLK_SETTING(is_usual_free)))
        return reallocate_unusually(address, size_bytes, origin, out);
    return reallocate_block(address, size_bytes, origin, out);
}

static void *reallocate_block(void *address, size_t size_bytes,
                              const flk_origin *origin, flk_misuse *out) {
    flk_record record;
    switch (flk_tracker_move_begin(FLK_LAYER_HEAP, (uintptr_t)address,
                                   origin->type, &record)) {
    case FLK_TAKEN:
        return reallocate_recorded(address, size_bytes, &record,
                                   origin->path, out);
    case FLK_KEPT:
        flk_misuse_fill(out, FLK_MISMATCHED_FREE, (uintptr_t)address, &record,
                        0,
                    flk_quarantine_path(origin->path));
        return NULL;
    case FLK_ABSENT:
        break;
    }
    return reallocate_unrecorded(address, size_bytes, origin, out);
}
