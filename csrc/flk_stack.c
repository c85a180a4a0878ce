// flk_stack.c - from raw frames to a path. Contract: flk_stack.h.            SPDX-License-Identifier: MIT
#include "flk_stack.h"

#include <string.h>

#include "flk_callpath.h"
#include "flk_codes.h"
#include "flk_hash.h"
#include "flk_platform.h"
#include "flk_sites.h"

enum { FRAMES_MAX = FLK_PATH_FRAMES_MAX + FLK_PATH_OWN_FRAMES_MAX };

// A sum of products by different odd numbers: they do not wait for each
// other (multilinear hashing: Carter and Wegman, 1979). Equality is compared.
static uint64_t frames_hash(const flk_raw_frame *frames, size_t count) {
    uint64_t hash = count;
    uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < count; i++) {
        uint64_t frame = (uint64_t)(uintptr_t)frames[i].code;
        hash += (frame + (uint64_t)frames[i].offset * 3) * factor;
        factor += UINT64_C(0xBF58476D1CE4E5BA);
    }
    return hash ^ hash >> 32;
}

// Sites of the frames, innermost first, without this package's own.
static size_t sites_of(const flk_raw_frame *frames, size_t count,
                       uint32_t depth, uint32_t *sites) {
    size_t found = 0;
    for (size_t i = 0; i < count && found < depth; i++) {
        uint32_t code = flk_sites_code(frames[i].code, flk_codes_is_own);
        if (code && flk_sites_code_is_own(code))
            continue;
        sites[found] = flk_sites_intern(code, (int32_t)frames[i].offset);
        if (!sites[found++])
            return SIZE_MAX;
    }
    return found;
}

static FLK_NOINLINE uint32_t intern(const flk_raw_frame *frames, size_t count,
                                    uint32_t depth) {
    uint32_t sites[FRAMES_MAX];
    size_t left = sites_of(frames, count, depth, sites);
    if (left == SIZE_MAX)
        return FLK_PATH_NONE;
    uint32_t path = FLK_PATH_EMPTY;
    while (left > 0 && path != FLK_PATH_NONE)
        path = flk_callpath_child(path, sites[--left]);
    return path;
}

static bool memo_is(const flk_memo *memo, uint64_t hash, uint64_t generation,
                    const flk_raw_frame *frames, size_t count) {
    return memo->hash == hash && memo->generation == generation &&
           memo->frame_count == count &&
           memcmp(memo->frames, frames, count * sizeof *frames) == 0;
}

uint32_t flk_stack_walk(flk_thread *thread, uint32_t depth) {
    flk_raw_frame frames[FRAMES_MAX];
    FLK_ASSERT(depth > 0 && depth <= FLK_PATH_FRAMES_MAX);
    // Read before the frames: a code object that dies later is still on its
    // stack now, so what is remembered under this number stays true.
    uint64_t generation = flk_sites_generation();
    size_t count = flk_pyframe_walk(frames, depth + FLK_PATH_OWN_FRAMES_MAX);
    if (count == 0)
        return FLK_PATH_EMPTY;
    uint64_t hash = frames_hash(frames, count) + depth;
    flk_memo *memo = &thread->memo[hash & (FLK_PATH_MEMO_WAYS - 1)];
    if (FLK_LIKELY(memo_is(memo, hash, generation, frames, count)))
        return memo->path;
    uint32_t path = intern(frames, count, depth);
    if (path == FLK_PATH_NONE)
        return path;
    memo->hash = hash;
    memo->generation = generation;
    memo->frame_count = (uint32_t)count;
    memo->path = path;
    memcpy(memo->frames, frames, count * sizeof *frames);
    return path;
}
