// stub_python.h - the Python half of the core, made up: frames and contexts that a test sets.  SPDX-License-Identifier: MIT
// Keeps:   per thread, the frames flk_pyframe_walk tells and the context that paths/pycontext.h tells.
// Use:     instead of paths/pyframe.c, paths/pycontext.c and paths/codes.c, which need an interpreter.
#ifndef FLK_STUB_PYTHON_H
#define FLK_STUB_PYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A code object; one whose file name starts with the folder that flk_start
// was given belongs to the package.
typedef struct stub_code {
    const char *function, *filename;
    int32_t first_line;
} stub_code;

// The frames of this thread from now on, innermost first, each at `offset`.
// NULL is a shim: in the chain, but no frame.
#define STUB_MARKLESS 1000  // an offset that has no mark
void stub_set_frames(const stub_code *const *codes, size_t count,
                     int64_t offset);
// A context: what its variable holds (UINT32_MAX: nothing), and how it began.
typedef struct stub_context {
    uint32_t scope;
    bool is_entered;
} stub_context;
// The context of this thread; NULL: it has no thread state.
void stub_set_context(const stub_context *context, uint64_t version);
// This thread has a state, but no context.
void stub_set_no_context(uint64_t version);
// Whether contexts can be read; at first they can.
void stub_set_readable(bool is_readable);
// How often frames were walked, in all threads.
uint64_t stub_walk_count(void);
// How often the child of a fork was told that no walker is left.
uint32_t stub_forked_count(void);

#endif
