// stack.c - remembered paths, and the walk for a new one. Contract: paths/stack.h. SPDX-License-Identifier: MIT
#include "paths/stack.h"

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/sites.h"
#include "paths/unwind.h"

_Static_assert(FLK_WALK_FRAMES_MAX >= FLK_NATIVE_FRAMES_MAX,
               "the buffer of sites serves both kinds of frames");

// --- small signal stacks -----------------------------------------------
static atomic_ullong cut_count;  // relaxed: a figure

uint64_t flk_stack_cut_count(void) {
    return flk_pyframe_cut_count() +
           atomic_load_explicit(&cut_count, memory_order_relaxed);
}

void flk_stack_cut_clear(void) {
    atomic_store(&cut_count, 0);
    flk_pyframe_cut_clear();
}

// Called before a path is learned, which takes microseconds, so the system call
// does not matter. A remembered path needs no check.
static bool has_stack(size_t bytes) {
    FLK_ASSERT(bytes > 0);
    return FLK_LIKELY(flk_platform_stack_left() >= bytes);
}

static uint32_t cut(uint32_t path) {
    FLK_ASSERT(path != FLK_PATH_NONE);
    atomic_fetch_add_explicit(&cut_count, 1, memory_order_relaxed);
    return path;
}

// --- a path not seen before --------------------------------------------
// Finds the sites of the frames, innermost first, without those of this
// package, and returns how many; SIZE_MAX at a limit or without memory. `used`
// receives the number of frames that were needed.
static size_t sites_of(const flk_raw_frame *frames, size_t count,
                       uint32_t depth, uint32_t *sites, size_t *used) {
    FLK_ASSERT(depth > 0 && depth <= FLK_PATH_FRAMES_MAX);
    size_t found = 0, i = 0;
    for (; i < count && found < depth; i++) {
        uint32_t code = flk_sites_code(frames[i].code);
        if (code && flk_sites_code_is_own(code))
            continue;
        sites[found] = flk_sites_intern(code, frames[i].offset);
        if (!sites[found++])
            return SIZE_MAX;
    }
    *used = i;
    return found;
}

// The path depends on all marks, up to the end of the chain.
#define ALL_MARKS SIZE_MAX

// The path of the frames that are on the stack now. `marks_used` receives the
// number of marks that it depends on; 0 if it cannot be remembered.
static FLK_NOINLINE uint32_t intern(flk_walk_buffers *walk, uint32_t depth,
                                    size_t *marks_used) {
    FLK_ASSERT(depth > 0 && depth <= FLK_PATH_FRAMES_MAX);
    flk_raw_frame *frames = walk->frames;
    uint32_t *sites = walk->sites;
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

// --- remembered paths --------------------------------------------------
// A path is looked up by its two innermost marks, among two entries. If those
// hold other paths, which differ further out, it is looked up by all its marks.
// The marks of the present stack are collected into the buffer of the thread.
typedef struct stack {
    uint64_t generation;
    uint32_t depth;
    size_t count;  // of marks in `seen`
    flk_frame_seen *seen;
} stack;

static FLK_HOT flk_memo *near_of(flk_thread *thread, flk_frame_mark first,
                                 flk_frame_mark second) {
    uint64_t hash = first * UINT64_C(0x9E3779B97F4A7C15) +
                    second * UINT64_C(0xBF58476D1CE4E5B9);
    return &thread->near[hash >> 32 & (FLK_PATH_MEMO_ENTRIES - 2)];
}

// A sum of products with different odd factors, which the processor computes in
// parallel (multilinear hashing: Carter and Wegman, 1979). Marks are compared
// afterwards.
static flk_memo *whole_of(flk_thread *thread, const stack *s) {
    FLK_ASSERT(s->count > 0 && s->count <= FLK_PATH_MARKS_MAX);
    uint64_t hash = s->depth;
    uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < s->depth && i < s->count; i++) {
        hash += s->seen[i].mark * factor;
        factor += UINT64_C(0xBF58476D1CE4E5BA);
    }
    return &thread->whole[hash >> 32 & (FLK_PATH_MEMO_ENTRIES - 1)];
}

static FLK_HOT bool is_current(const flk_memo *memo, uint64_t generation) {
    return memo->depth > 0 && memo->generation == generation;
}

static FLK_HOT bool memo_is(flk_memo *memo, const stack *s,
                            const flk_frame_reader *reader) {
    return memo->depth == s->depth && memo->generation == s->generation &&
           memo->seen[0].mark == reader->mark &&
           flk_pyframe_matches(reader, memo->seen, memo->seen_count);
}

static void memo_fill(flk_memo *memo, const stack *s, size_t count,
                      uint32_t path) {
    FLK_ASSERT(count > 0 && count <= FLK_PATH_MARKS_MAX);
    memo->generation = s->generation;
    memo->depth = (uint16_t)s->depth;
    memo->seen_count = (uint16_t)count;
    memo->path = path;
    memcpy(memo->seen, s->seen, count * sizeof *s->seen);
}

static bool may_be_remembered(const stack *s, size_t count) {
    FLK_ASSERT(count <= s->count);
    for (size_t i = 0; i < count; i++)
        if (s->seen[i].mark == FLK_MARK_NONE)
            return false;
    return count > 0;
}

static void near_fill(flk_thread *thread, const stack *s, size_t count,
                      uint32_t path) {
    FLK_ASSERT(count > 0 && s->count >= 2);
    flk_memo *near = near_of(thread, s->seen[0].mark, s->seen[1].mark);
    memo_fill(near + is_current(near, s->generation), s, count, path);
}

static void remember(flk_thread *thread, const stack *s, size_t count,
                     uint32_t path) {
    FLK_ASSERT(path != FLK_PATH_NONE && s->count > 0);
    bool is_all = s->seen[s->count - 1].mark == FLK_MARK_END;
    if (count == ALL_MARKS && is_all)
        count = s->count;
    if (count > s->count || !may_be_remembered(s, count))
        return;
    near_fill(thread, s, count, path);
    memo_fill(whole_of(thread, s), s, count, path);
}

// Looks up all marks. FLK_PATH_NONE if the path is not remembered; `s` then
// holds all marks.
static FLK_NOINLINE uint32_t recall_late(flk_thread *thread, stack *s,
                                         const flk_frame_reader *reader) {
    FLK_ASSERT(thread->inside && reader->frame);
    s->seen = thread->walk.seen;
    s->count = flk_pyframe_collect(reader, s->seen, FLK_PATH_MARKS_MAX);
    flk_memo *memo = whole_of(thread, s);
    if (!memo_is(memo, s, reader))
        return FLK_PATH_NONE;
    // A path that is found here often moves to the first table, in front of
    // the entry that was there.
    if (++thread->recalled_late % 16 == 0) {
        flk_memo *near = near_of(thread, s->seen[0].mark, s->seen[1].mark);
        near[1] = near[0];
        near[0] = *memo;
    }
    return memo->path;
}

static FLK_NOINLINE uint32_t recall_other(flk_thread *thread, stack *s,
                                          const flk_frame_reader *reader) {
    flk_frame_mark second = flk_pyframe_second_mark(reader);
    flk_memo *near = near_of(thread, reader->mark, second);
    for (int i = 0; i < 2; i++)
        if (memo_is(&near[i], s, reader)) {
            thread->last = &near[i];
            return near[i].path;
        }
    return recall_late(thread, s, reader);
}

static FLK_HOT uint32_t recall(flk_thread *thread, stack *s,
                               const flk_frame_reader *reader) {
    FLK_ASSERT(thread->last != NULL);
    if (FLK_UNLIKELY(!reader->frame))
        return FLK_PATH_EMPTY;
    return FLK_LIKELY(memo_is(thread->last, s, reader))
               ? thread->last->path
               : recall_other(thread, s, reader);
}

static FLK_NOINLINE uint32_t learn(flk_thread *thread, const stack *s) {
    FLK_ASSERT(thread->inside);
    size_t used = 0;
    if (!has_stack(FLK_PYTHON_STACK_BYTES))
        return cut(FLK_PATH_EMPTY);
    uint32_t path = intern(&thread->walk, s->depth, &used);
    if (path != FLK_PATH_NONE)
        remember(thread, s, used, path);
    return path;
}

uint32_t flk_stack_walk(flk_thread *thread, uint32_t depth) {
    stack s;
    flk_frame_reader reader;
    FLK_ASSERT(depth > 0 && depth <= FLK_PATH_FRAMES_MAX);
    FLK_ASSERT(thread->inside);
    // Read before the frames. A code object that dies later has a frame on the
    // stack now, so a path remembered under this generation stays right.
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
static FLK_NOINLINE uint32_t learn_native(flk_thread *thread,
                                          const flk_wanted *wanted) {
    if (!has_stack(FLK_NATIVE_STACK_BYTES))
        return cut(wanted->base);
    uint32_t *sites = thread->walk.sites;
    flk_native *native = thread->native;
    size_t left = flk_unwind_walk(native, wanted, sites);
    if (left == FLK_UNWIND_NO_MEMORY)
        return FLK_PATH_NONE;
    if (left == FLK_UNWIND_NO_STACK)
        return cut(wanted->base);
    FLK_ASSERT(left <= wanted->depth);
    uint32_t path = wanted->base;
    while (left > 0 && path != FLK_PATH_NONE)
        path = flk_callpath_child(path, sites[--left]);
    if (path != FLK_PATH_NONE)
        flk_unwind_remember(native, wanted, path);
    return path;
}

// Not inlined: the walk begins with the frame of this function.
FLK_NOINLINE uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                                           uint32_t depth) {
    FLK_ASSERT(thread->inside && depth > 0 && depth <= FLK_NATIVE_FRAMES_MAX);
    flk_wanted wanted = {flk_unwind_here(), base, depth};
    if (FLK_UNLIKELY(!thread->native))
        thread->native = flk_unwind_new();
    if (base == FLK_PATH_NONE || !thread->native)
        return FLK_PATH_NONE;
    uint32_t path = flk_unwind_recall(thread->native, &wanted);
    return FLK_LIKELY(path != FLK_PATH_NONE) ? path
                                             : learn_native(thread, &wanted);
}
#else
uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                              uint32_t depth) {
    (void)thread, (void)depth;
    return base;
}
#endif
