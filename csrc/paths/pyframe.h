// pyframe.h - the Python frames of this thread, raw, without the GIL.    SPDX-License-Identifier: MIT
// Keeps:   a flag whether frames may be read, and who is reading: a slot of 64 bytes for each of the first
//          FLK_PYFRAME_SLOTS thread states, so that no line is written by two threads; others share one.
// Cost:    O(depth): some loads a frame; no reference count is touched, no lock taken. In a thread with a
//          slot of its own no atomic instruction either: flk_pyframe_close pays with a fence in all threads.
// Callers: any thread; the GIL may be released. CPython only; elsewhere flk_pyframe_walk returns 0.
// Fails:   no thread state, not the interpreter it was opened in, before flk_pyframe_open, after
//          flk_pyframe_close: 0 frames.
// Source:  mechanisms.md (thread state, frame layouts); layouts from the headers of each version;
//          asymmetric fence: membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED.
#ifndef FLK_PYFRAME_H
#define FLK_PYFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLK_PYFRAME_SLOTS 256

// One frame as read: the code object's address, not a reference, and the
// byte offset of the instruction being run (what f_lasti says).
typedef struct flk_raw_frame {
    const void *code;
    int32_t offset;
    uint32_t place;  // in the chain, those left out counted: 0 = innermost
} flk_raw_frame;

// What tells a frame from any other place as long as no code object dies: its
// instruction's address. A chain that ends has the mark FLK_MARK_END last.
typedef uintptr_t flk_frame_mark;
#define FLK_MARK_END ((flk_frame_mark)0)
#define FLK_MARK_NONE ((flk_frame_mark)1)  // cannot be told from others

// A frame seen before, and where the next one was: where it is most often,
// so that a processor need not wait for each frame to tell of the next.
typedef struct flk_frame_seen {
    flk_frame_mark mark;
    const void *next;
} flk_frame_seen;

// The chain of this thread, between begin (if true) and end: short, never
// nested, no lock taken and nothing waited for in between.
typedef struct flk_frame_reader {
    const void *thread_state;
    const void *frame;  // the innermost, or NULL
    void *slot;
} flk_frame_reader;
// Who is attached (holds the GIL) finds its thread state faster.
bool flk_pyframe_begin(flk_frame_reader *reader, bool is_attached);
void flk_pyframe_end(const flk_frame_reader *reader);
// The first frames of the chain, shims included, at most `seen_max`.
size_t flk_pyframe_collect(const flk_frame_reader *reader, flk_frame_seen *seen,
                           size_t seen_max);
// Does the chain, which has a frame, begin with these marks, at least one and
// no FLK_MARK_NONE? Their `next` is brought up to date; it is NULL in the last
// frame of a chain only.
bool flk_pyframe_matches(const flk_frame_reader *reader, flk_frame_seen *seen,
                         size_t count);

// Fills at most `frames_max` frames of the calling thread, innermost first,
// and returns how many. Shims and incomplete frames are left out, so the
// result is what sys._getframe() and f_back tell. `is_lasting`, unless NULL:
// will the same marks tell the same until a code object of `frames` dies? Not
// so where a frame was left out whose code is not among them.
size_t flk_pyframe_walk(flk_raw_frame *frames, size_t frames_max,
                        bool *is_lasting);
// The context object and version of the calling thread, for scopes; false
// when there is no thread state.
bool flk_pyframe_context(const void **context, uint64_t *version);

// Between hold (if true) and release, the code objects of this thread's
// frames stay readable: flk_pyframe_close waits. Short, never nested, no
// lock taken and nothing waited for in between.
bool flk_pyframe_hold(void);
void flk_pyframe_release(void);

// Frames of the interpreter of the calling thread, which holds the GIL, may
// be read from now on. Whoever calls it has made sure that the death of a
// code object is noticed, and that flk_pyframe_mismatch() is NULL.
void flk_pyframe_open(void);
// From now on no frame is read (interpreter shutdown, or a layout that is
// not the expected one); waits for walkers inside, at most a second.
void flk_pyframe_close(void);
bool flk_pyframe_is_open(void);
// In the child of a fork: whoever was reading in another thread is gone.
void flk_pyframe_forked(void);
// Compiled for this interpreter? Otherwise a static text naming both.
const char *flk_pyframe_mismatch(void);

#endif
