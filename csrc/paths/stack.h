// stack.h - the call path of this thread, as a path id.                  SPDX-License-Identifier: MIT
// Keeps:   nothing: each thread's memo of paths stands in its flk_thread.
// Cost:    a path seen lately: the walk, a hash and a compare of its raw frames; else two locks a frame.
// Callers: any thread, inside the guard, GIL not needed.
// Fails:   FLK_PATH_EMPTY when there are no frames; FLK_PATH_NONE when the tree or the sites are full (one drop).
#ifndef FLK_STACK_H
#define FLK_STACK_H

#include <stdint.h>

#include "paths/thread.h"

// At most `depth` frames that are not this package's own, innermost first.
uint32_t flk_stack_walk(flk_thread *thread, uint32_t depth);
static inline uint32_t flk_stack_capture(flk_thread *thread, uint32_t depth) {
    return depth == 0 ? 0 : flk_stack_walk(thread, depth);
}

// The path with at most `depth` native frames above those of `base`, up to
// the Python runtime; `base` itself without native frames.
uint32_t flk_stack_add_native(flk_thread *thread, uint32_t base,
                              uint32_t depth);

#endif
