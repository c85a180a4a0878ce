// heap.c - allocate and free. Contract: tracker/heap.h.                      SPDX-License-Identifier: MIT
#include "tracker/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/win32.h"
#include "paths/callpath.h"
#include "registry/names.h"
#include "tracker/guard.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/quarantine.h"
#include "tracker/recent.h"
#include "tracker/tracker_hot.h"

// The largest alignment of a guarded block, since its lead is a part of the
// record.
#define ALIGNMENT_MAX ((size_t)1 << 30)

// --- memory with and without guards ------------------------------------
static FLK_NOINLINE void *aligned_allocate(size_t size_bytes, size_t alignment,
                                           bool zeroed) {
    FLK_ASSERT(alignment > _Alignof(max_align_t));
    void *memory = NULL;
    int error = posix_memalign(&memory, alignment, size_bytes);
    if (error) {
        errno = error;
        return NULL;
    }
    return zeroed ? memset(memory, 0, size_bytes) : memory;
}

// In glibc before 2.41, calloc does not use the per-thread cache. For small
// blocks it takes three times the instructions of malloc and memset.
static FLK_HOT void *small_zeroed(size_t size_bytes) {
    FLK_ASSERT(size_bytes > 0 && size_bytes <= FLK_SMALL_BYTES);
    void *memory = malloc(size_bytes);
    // Keeps compilers from merging malloc and memset into calloc.
    FLK_OPAQUE(memory);
    return FLK_LIKELY(memory != NULL) ? memset(memory, 0, size_bytes) : NULL;
}

static FLK_HOT void *c_allocate(size_t size_bytes, size_t alignment,
                                bool zeroed) {
    // With size 0, some C libraries return no distinct block.
    size_bytes += !size_bytes;
    if (FLK_UNLIKELY(alignment > _Alignof(max_align_t)))
        return aligned_allocate(size_bytes, alignment, zeroed);
    if (!zeroed)
        return malloc(size_bytes);
    return size_bytes <= FLK_SMALL_BYTES ? small_zeroed(size_bytes)
                                         : calloc(1, size_bytes);
}

static void *guarded_allocate(size_t size_bytes, size_t alignment, bool zeroed,
                              size_t lead, size_t guard_bytes) {
    FLK_ASSERT(lead >= FLK_GUARD_LEAD_MIN);
    FLK_ASSERT(guard_bytes % 16 == 0 && guard_bytes <= FLK_GUARD_BYTES_MAX);
    if (size_bytes > SIZE_MAX - lead - guard_bytes) {
        errno = ENOMEM;
        return NULL;
    }
    void *memory =
        c_allocate(lead + size_bytes + guard_bytes, alignment, zeroed);
    return memory ? flk_guard_begin(memory, lead, size_bytes, guard_bytes)
                  : NULL;
}

static FLK_NOINLINE void *allocate_guarded(size_t size_bytes, size_t alignment,
                                           bool zeroed,
                                           const flk_origin *origin,
                                           size_t guard_bytes) {
    FLK_ASSERT(origin != NULL);
    FLK_ASSERT(guard_bytes > 0 && alignment <= ALIGNMENT_MAX);
    size_t lead = flk_guard_lead(guard_bytes, alignment);
    uint8_t flags = (uint8_t)(__builtin_ctzll(lead) << FLK_RECORD_LEAD_SHIFT);
    char *block =
        guarded_allocate(size_bytes, alignment, zeroed, lead, guard_bytes);
    if (!block || flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)block,
                                       size_bytes, flags, origin))
        return block;
    // Without a record, a free would not find the C memory. A plain block is
    // returned instead.
    free(block - lead);
    return c_allocate(size_bytes, alignment, zeroed);
}

static FLK_HOT void *allocate_plainly(size_t size_bytes, size_t alignment,
                                      bool zeroed, const flk_origin *origin) {
    FLK_ASSERT(origin != NULL);
    void *block = c_allocate(size_bytes, alignment, zeroed);
    if (FLK_LIKELY(block != NULL))
        flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)block, size_bytes, 0,
                             origin);
    return block;
}

// Used if guards are on or types are observed.
static FLK_NOINLINE void *allocate_unusually(size_t size_bytes,
                                             size_t alignment, bool zeroed,
                                             const flk_origin *origin) {
    FLK_ASSERT(origin != NULL);
    uint32_t guard = FLK_SETTING(guard_bytes);
    void *block =
        guard > 0 && alignment <= ALIGNMENT_MAX
            ? allocate_guarded(size_bytes, alignment, zeroed, origin, guard)
            : allocate_plainly(size_bytes, alignment, zeroed, origin);
    if (block && flk_observe_is_on())
        flk_observe_made(FLK_LAYER_HEAP, (uintptr_t)block);
    return block;
}

void *flk_heap_allocate(size_t size_bytes, size_t alignment, bool zeroed,
                        const flk_origin *origin) {
    FLK_ASSERT(origin != NULL);
    if (!flk_tracker_is_enabled() || origin->scope == FLK_SCOPE_NOWHERE)
        return c_allocate(size_bytes, alignment, zeroed);
    if (FLK_UNLIKELY(!FLK_SETTING(is_usual_alloc)))
        return allocate_unusually(size_bytes, alignment, zeroed, origin);
    return allocate_plainly(size_bytes, alignment, zeroed, origin);
}

// --- free --------------------------------------------------------------
// For an address without a record, only a held block proves a double free: its
// memory cannot have been allocated again. An earlier free of the address proves
// nothing, since the C library may have returned the address to code that is not
// tracked.
static int judge_unrecorded(uint64_t address, uint32_t path, flk_misuse *out) {
    FLK_ASSERT(address != 0);
    FLK_ASSERT(!flk_thread_is_inside());
    flk_free held;
    flk_entry around;
    if (flk_recent_find(address, &held)) {
        flk_quarantine_misuse_fill(out, FLK_DOUBLE_FREE, address, &held.record,
                                   held.free_path, flk_quarantine_path(path));
        return FLK_DOUBLE_FREE;
    }
    if (flk_registry_containing(FLK_LAYER_HEAP, address, &around)) {
        flk_quarantine_misuse_fill(out, FLK_INTERIOR_FREE, around.address,
                                   &around.record, 0,
                                   flk_quarantine_path(path));
        return FLK_INTERIOR_FREE;
    }
    flk_tracker_count(&flk_tracker_counted.unknown_frees);
    return FLK_NOT_RECORDED;
}

int flk_heap_judge(uint64_t address, uint32_t path, flk_misuse *out) {
    FLK_ASSERT(address != 0);
    flk_thread *thread = flk_thread_enter();
    if (!thread)  // a signal handler frees it; it cannot be judged
        return FLK_NOT_RECORDED;
    flk_thread_leave(thread);
    return judge_unrecorded(address, path, out);
}

static FLK_HOT int free_with(void *address, uint16_t type, uint32_t path,
                             flk_misuse *out, bool observes) {
    FLK_ASSERT(address != NULL);
    flk_record record;
    uint64_t key = (uintptr_t)address;
    // Not initialised as a whole, since `leaving` is large. Only its first
    // `leaving_count` entries are valid.
    flk_release_step step;
    step.address = address;
    step.path = path;
    step.out = out;
    step.verdict = FLK_FREED;
    step.leaving_count = 0;
    switch (flk_tracker_free_hot(FLK_LAYER_HEAP, key, type, &record,
                                 flk_quarantine_take, &step)) {
    case FLK_TAKEN:
        // This is done before the memory can be allocated again. Therefore
        // the next block at this address is observed later.
        if (observes)
            flk_observe_freed(FLK_LAYER_HEAP, key, &record);
        return flk_quarantine_finish(&step);
    case FLK_KEPT:
        flk_quarantine_misuse_fill(out, FLK_MISMATCHED_FREE, key, &record, 0,
                                   flk_quarantine_path(path));
        return FLK_MISMATCHED_FREE;
    case FLK_ABSENT:
        break;
    }
    int verdict = flk_heap_judge(key, path, out);
    if (verdict >= 0)
        free(address);
    return verdict;
}

// --- handles -----------------------------------------------------------
// The memory of a handle has a record of its own, or none. A handle forbids a
// free if it must be released by another function. A handle without a named
// release function ("custom") does not forbid the free of a recorded block.
static bool forbids_free(const flk_record *handle, uint64_t address,
                         uint16_t type) {
    FLK_ASSERT(handle != NULL && address != 0);
    FLK_ASSERT(type != 0);
    const flk_name *name = flk_names_at(handle->type);
    flk_record block;
    return name->release_id != flk_names_at(type)->release_id &&
           (strcmp(name->release, "custom") != 0 ||
            !flk_registry_find(FLK_LAYER_HEAP, address, &block));
}

// A block that was recorded after the handle began at the same address: so the
// memory of the handle was freed before, unseen.
static bool is_left_over(const flk_record *handle, uint64_t address) {
    FLK_ASSERT(handle != NULL && address != 0);
    flk_record block;
    return flk_registry_find(FLK_LAYER_HEAP, address, &block) &&
           block.sequence > handle->sequence;
}

static bool is_other_handle(uint64_t address, uint16_t type, uint32_t path,
                            flk_misuse *out) {
    FLK_ASSERT(address != 0);
    flk_record handle;
    if (type == 0 || !FLK_SETTING(has_handles) ||
        !flk_registry_find(FLK_LAYER_HANDLE, address, &handle) ||
        !forbids_free(&handle, address, type))
        return false;
    if (is_left_over(&handle, address)) {
        flk_tracker_on_free(FLK_LAYER_HANDLE, address, 0, &handle);
        flk_tracker_count(&flk_tracker_counted.missed_frees);
        return false;
    }
    flk_quarantine_misuse_fill(out, FLK_MISMATCHED_FREE, address, &handle, 0,
                               flk_quarantine_path(path));
    if (out)
        out->block.layer = FLK_LAYER_HANDLE;
    return true;
}

// Removes the record of a handle that this free releases. This is done before
// the memory is freed.
static void release_handle(uint64_t address, uint16_t type) {
    FLK_ASSERT(address != 0);
    flk_record record;
    if (FLK_SETTING(has_handles) &&
        flk_tracker_on_free(FLK_LAYER_HANDLE, address, type, &record) ==
            FLK_TAKEN &&
        flk_observe_is_on())
        flk_observe_freed(FLK_LAYER_HANDLE, address, &record);
}

// Used if nothing was ever recorded, a handle was recorded, or types are
// observed.
static FLK_NOINLINE int free_unusually(void *address, uint16_t type,
                                       uint32_t path, flk_misuse *out) {
    FLK_ASSERT(address != NULL);
    if (!FLK_SETTING(ever_enabled)) {
        free(address);
        return FLK_NOT_RECORDED;
    }
    if (is_other_handle((uintptr_t)address, type, path, out))
        return FLK_MISMATCHED_FREE;
    release_handle((uintptr_t)address, type);
    return free_with(address, type, path, out, flk_observe_is_on());
}

int flk_heap_free(void *address, uint16_t type, uint32_t path,
                  flk_misuse *out) {
    if (!address)
        return FLK_FREED;
    if (FLK_UNLIKELY(!FLK_SETTING(is_usual_free)))
        return free_unusually(address, type, path, out);
    return free_with(address, type, path, out, false);
}

// --- realloc -----------------------------------------------------------
static void *c_reallocate(void *address, size_t size_bytes,
                          const flk_record *record) {
    FLK_ASSERT(address != NULL && record != NULL);
    FLK_ASSERT(size_bytes > 0);
    size_t lead = flk_record_lead(record);
    if (!lead)
        return realloc(address, size_bytes);
    size_t guard_bytes = flk_guard_bytes(address, lead);
    if (size_bytes > SIZE_MAX - lead - guard_bytes)
        return NULL;
    void *memory =
        realloc((char *)address - lead, lead + size_bytes + guard_bytes);
    return memory ? flk_guard_begin(memory, lead, size_bytes, guard_bytes)
                  : NULL;
}

static void *reallocate_recorded(void *address, size_t size_bytes,
                                 const flk_record *moving, uint32_t path,
                                 flk_misuse *out) {
    FLK_ASSERT(address != NULL && moving != NULL);
    FLK_ASSERT(size_bytes > 0 && out != NULL);
    out->verdict = FLK_FREED;
    size_t lead = flk_record_lead(moving);
    if (lead && flk_quarantine_check_guard(address, moving, path, out) < 0) {
        // The damage is reported once. The next call finds the guards intact
        // and moves the block.
        flk_guard_mend(address, moving->size_bytes, lead);
        flk_tracker_move_cancel(FLK_LAYER_HEAP, (uintptr_t)address, moving);
        return NULL;
    }
    // A resize is observed as a free and an allocation. The free is observed
    // before another block can be allocated at the address.
    if (flk_observe_is_on())
        flk_observe_freed(FLK_LAYER_HEAP, (uintptr_t)address, moving);
    void *moved = c_reallocate(address, size_bytes, moving);
    if (!moved) {
        flk_tracker_move_cancel(FLK_LAYER_HEAP, (uintptr_t)address, moving);
        out->verdict = FLK_NO_ROOM;
        return NULL;
    }
    if (flk_tracker_move_end(FLK_LAYER_HEAP, (uintptr_t)address, moving,
                             (uintptr_t)moved, size_bytes) ||
        !lead)
        return moved;
    // The record is lost. Without it a free would not find the C memory.
    // Therefore the block is turned into a plain one.
    return memmove((char *)moved - lead, moved, size_bytes);
}

static void *reallocate_unrecorded(void *address, size_t size_bytes,
                                   const flk_origin *origin, flk_misuse *out) {
    FLK_ASSERT(address != NULL);
    FLK_ASSERT(origin != NULL && out != NULL);
    out->verdict = FLK_NOT_RECORDED;
    if (FLK_SETTING(ever_enabled)) {
        out->verdict = flk_heap_judge((uintptr_t)address, origin->path, out);
        if (out->verdict < 0)
            return NULL;
    }
    void *moved = realloc(address, size_bytes);
    if (!moved)
        out->verdict = FLK_NO_ROOM;
    else if (flk_tracker_is_enabled() && origin->scope != FLK_SCOPE_NOWHERE)
        flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)moved, size_bytes, 0,
                             origin);
    return moved;
}

static void *reallocate_block(void *address, size_t size_bytes,
                              const flk_origin *origin, flk_misuse *out) {
    FLK_ASSERT(address != NULL && size_bytes > 0);
    FLK_ASSERT(origin != NULL && out != NULL);
    flk_record record;
    switch (flk_tracker_move_begin(FLK_LAYER_HEAP, (uintptr_t)address,
                                   origin->type, &record)) {
    case FLK_TAKEN:
        return reallocate_recorded(address, size_bytes, &record, origin->path,
                                   out);
    case FLK_KEPT:
        flk_quarantine_misuse_fill(out, FLK_MISMATCHED_FREE, (uintptr_t)address,
                                   &record, 0,
                                   flk_quarantine_path(origin->path));
        return NULL;
    case FLK_ABSENT:
        break;
    }
    return reallocate_unrecorded(address, size_bytes, origin, out);
}

void *flk_heap_reallocate(void *address, size_t size_bytes,
                          const flk_origin *origin, flk_misuse *out) {
    FLK_ASSERT(origin != NULL && out != NULL);
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
    if (!FLK_SETTING(ever_enabled))
        return reallocate_unrecorded(address, size_bytes, origin, out);
    if (is_other_handle((uintptr_t)address, origin->type, origin->path, out)) {
        out->verdict = FLK_MISMATCHED_FREE;
        return NULL;
    }
    void *moved = reallocate_block(address, size_bytes, origin, out);
    bool is_still_there = out->verdict == FLK_NO_ROOM;
    if (flk_observe_is_on() && (moved || is_still_there))
        flk_observe_made(FLK_LAYER_HEAP, (uintptr_t)(moved ? moved : address));
    return moved;
}
