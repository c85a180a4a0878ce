// stack.h - the call path of this thread, as a path number.              SPDX-License-Identifier: MIT
// Keeps:   a counter. Remembered paths and buffers are in the flk_thread.
// Cost:    a remembered path: the walk and a comparison of marks. Another one: two locks a frame.
//          Stack: under 0.5 KiB for a remembered path; FLK_PYTHON_STACK_BYTES and FLK_NATIVE_STACK_BYTES for a new one.
// Callers: any thread, inside its guard; the GIL is not needed.
// Fails:   FLK_PATH_EMPTY if there are no frames. FLK_PATH_NONE if the tree or the sites are full, or without memory;
//          the event is then dropped. On an alternate signal stack with too few bytes left, a path that is not
//          remembered is cut: no native frames, or no frames at all. Such paths are counted.
#ifndef FLK_STACK_H
#define FLK_STACK_H

#include <stdint.h>

#include "paths/thread.h"

// The path of at most `depth` (> 0) frames, innermost first, without those of
// this package.
uint32_t flk_stack_walk(flk_thread *thread, uint32_t depth);
static inline uint32_t flk_stack_capture(flk_thread *thread, uint32_t depth) {
    FLK_ASSERT(depth <= FLK_PATH_FRAMES_MAX);
    return depth == 0 ? FLK_PATH_EMPTY : flk_stack_walk(thread, depth);
}

// Extends the path `base` by at most `depth` native frames, up to the Python
// runtime. Returns `base` where native frames cannot be read.
uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                              uint32_t depth);

// Paths that were cut: in signal handlers, because their stack was almost full, or
// because a frame of Python was half made.
uint64_t flk_stack_cut_count(void);
void flk_stack_cut_clear(void);

#endif
