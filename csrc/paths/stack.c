// stack.c - from raw frames to a path. Contract: paths/stack.h.            SPDX-License-Identifier: MIT
#include "paths/stack.h"

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/sites.h"
#include "paths/unwind.h"

enum { FRAMES_MAX = FLK_PATH_FRAMES_MAX + FLK_PATH_OWN_FRAMES_MAX };

// --- a path not seen before --------------------------------------------
// Sites of the frames, innermost first, without this package's own; `used`
// is how many frames it took.
static size_t sites_of(const flk_raw_frame *frames, size_t count,
                       uint32_t depth, uint32_t *sites, size_t *used) {
    size_t found = 0, i = 0;
    for (; i < count && found < depth; i++) {
        uint32_t code = flk_sites_code(frames[i].code, flk_codes_is_own);
        if (code && flk_sites_code_is_own(code))
            continue;
        sites[found] = flk_sites_intern(code, frames[i].offset);
        if (!sites[found++])
            return SIZE_MAX;
    }
    *used = i;
    return found;
}

// To the end of the chain.
#define ALL_MARKS SIZE_MAX

// The path of the frames that are there now. `marks_used` is how many marks
// it depends on; 0: it cannot be remembered.
static FLK_NOINLINE uint32_t intern(uint32_t depth, size_t *marks_used) {
    flk_raw_frame frames[FRAMES_MAX];
    uint32_t sites[FRAMES_MAX];
    size_t used = 0, walked = depth + FLK_PATH_OWN_FRAMES_MAX;
    bool is_lasting = false;
    size_t count = flk_pyframe_walk(frames, walked, &is_lasting);
    size_t left = sites_of(frames, count, depth, sites, &used);
    if (left == SIZE_MAX)
        return FLK_PATH_NONE;
    if (left == depth)
        *marks_used = frames[used - 1].place + 1;
    else if (count < walked)
        *marks_used = ALL_MARKS;
    if (!is_lasting)
        *marks_used = 0;
    uint32_t path = FLK_PATH_EMPTY;
    while (left > 0 && path != FLK_PATH_NONE)
        path = flk_callpath_child(path, sites[--left]);
    return path;
}

// --- the memo ----------------------------------------------------------
// A path is looked for by its two innermost calls, in two ways; where that
// finds others, which differ further out, by all of its marks.
typedef struct stack {
    uint64_t generation;
    uint32_t depth;
    size_t count;
    flk_frame_seen seen[FLK_PATH_MARKS_MAX];
} stack;

static FLK_HOT flk_memo *near_of(flk_thread *thread,
                                 const flk_frame_seen *seen) {
    uint64_t hash = seen[0].mark * UINT64_C(0x9E3779B97F4A7C15) +
                    seen[1].mark * UINT64_C(0xBF58476D1CE4E5B9);
    return &thread->near[hash >> 32 & (FLK_PATH_MEMO_WAYS - 2)];
}

// A sum of products by different odd numbers: they do not wait for each
// other (multilinear hashing: Carter and Wegman, 1979). Equality is compared.
static flk_memo *whole_of(flk_thread *thread, const stack *s) {
    uint64_t hash = s->depth;
    uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < s->depth && i < s->count; i++) {
        hash += s->seen[i].mark * factor;
        factor += UINT64_C(0xBF58476D1CE4E5BA);
    }
    return &thread->whole[hash >> 32 & (FLK_PATH_MEMO_WAYS - 1)];
}

static FLK_HOT bool is_current(const flk_memo *memo, uint64_t generation) {
    return memo->depth > 0 && memo->generation == generation;
}

static FLK_HOT bool memo_is(flk_memo *memo, const stack *s,
                            const flk_frame_reader *reader) {
    return memo->depth == s->depth && memo->generation == s->generation &&
           flk_pyframe_matches(reader, memo->seen, memo->seen_count);
}

static void memo_fill(flk_memo *memo, const stack *s, size_t count,
                      uint32_t path) {
    memo->generation = s->generation;
    memo->depth = (uint16_t)s->depth;
    memo->seen_count = (uint16_t)count;
    memo->path = path;
    memcpy(memo->seen, s->seen, count * sizeof *s->seen);
}

static bool may_be_remembered(const stack *s, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (s->seen[i].mark == FLK_MARK_NONE)
            return false;
    return count > 0;
}

static void near_fill(flk_thread *thread, const stack *s, size_t count,
                      uint32_t path) {
    flk_memo *near = near_of(thread, s->seen);
    memo_fill(near + is_current(near, s->generation), s, count, path);
}

static void remember(flk_thread *thread, const stack *s, size_t count,
                     uint32_t path) {
    bool is_all = s->seen[s->count - 1].mark == FLK_MARK_END;
    if (count == ALL_MARKS && is_all)
        count = s->count;
    if (count > s->count || !may_be_remembered(s, count))
        return;
    near_fill(thread, s, count, path);
    memo_fill(whole_of(thread, s), s, count, path);
}

// FLK_PATH_NONE if neither knows it; `s` holds all marks then.
static FLK_NOINLINE uint32_t recall_late(flk_thread *thread, stack *s,
                                         const flk_frame_reader *reader) {
    s->count = flk_pyframe_collect(reader, s->seen, FLK_PATH_MARKS_MAX);
    flk_memo *memo = whole_of(thread, s);
    if (!memo_is(memo, s, reader))
        return FLK_PATH_NONE;
    // What comes often gets the place of what was there first, in time.
    if (++thread->recalled_late % 16 == 0) {
        flk_memo *near = near_of(thread, s->seen);
        near[1] = near[0];
        near[0] = *memo;
    }
    return memo->path;
}

static FLK_NOINLINE uint32_t recall_other(flk_thread *thread, stack *s,
                                          const flk_frame_reader *reader) {
    s->count = flk_pyframe_collect(reader, s->seen, 2);
    flk_memo *near = near_of(thread, s->seen);
    for (int i = 0; i < 2; i++)
        if (memo_is(&near[i], s, reader)) {
            thread->last = &near[i];
            return near[i].path;
        }
    return recall_late(thread, s, reader);
}

static FLK_HOT uint32_t recall(flk_thread *thread, stack *s,
                               const flk_frame_reader *reader) {
    if (FLK_UNLIKELY(!reader->frame))
        return FLK_PATH_EMPTY;
    return FLK_LIKELY(memo_is(thread->last, s, reader))
               ? thread->last->path
               : recall_other(thread, s, reader);
}

static FLK_NOINLINE uint32_t learn(flk_thread *thread, const stack *s) {
    size_t used = 0;
    uint32_t path = intern(s->depth, &used);
    if (path != FLK_PATH_NONE)
        remember(thread, s, used, path);
    return path;
}

uint32_t flk_stack_walk(flk_thread *thread, uint32_t depth) {
    stack s;
    flk_frame_reader reader;
    FLK_ASSERT(depth > 0 && depth <= FLK_PATH_FRAMES_MAX);
    // Read before the frames: a code object that dies later is still on its
    // stack now, so what is remembered under this number stays true.
    s.generation = flk_sites_generation();
    s.depth = depth;
    if (FLK_UNLIKELY(!flk_pyframe_begin(&reader, thread->is_attached)))
        return FLK_PATH_EMPTY;
    uint32_t path = recall(thread, &s, &reader);
    flk_pyframe_end(&reader);
    return FLK_LIKELY(path != FLK_PATH_NONE) ? path : learn(thread, &s);
}

// --- native frames -----------------------------------------------------
#ifdef FLK_HAS_ELF
static FLK_NOINLINE uint32_t learn_native(flk_native *native,
                                          const flk_wanted *wanted) {
    uint32_t sites[FLK_NATIVE_FRAMES_MAX];
    size_t left = flk_unwind_walk(native, wanted, sites);
    if (left == FLK_UNWIND_NO_MEMORY)
        return FLK_PATH_NONE;
    uint32_t path = wanted->base;
    while (left > 0 && path != FLK_PATH_NONE)
        path = flk_callpath_child(path, sites[--left]);
    if (path != FLK_PATH_NONE)
        flk_unwind_remember(native, wanted, path);
    return path;
}

// Not inlined: its frame is the one that the walk begins with.
FLK_NOINLINE uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                                           uint32_t depth) {
    flk_wanted wanted = {flk_unwind_here(), base, depth};
    if (FLK_UNLIKELY(!thread->native))
        thread->native = flk_unwind_new();
    if (base == FLK_PATH_NONE || !thread->native)
        return FLK_PATH_NONE;
    uint32_t path = flk_unwind_recall(thread->native, &wanted);
    return FLK_LIKELY(path != FLK_PATH_NONE)
               ? path
               : learn_native(thread->native, &wanted);
}
#else
uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                              uint32_t depth) {
    (void)thread, (void)depth;
    return base;
}
#endif
