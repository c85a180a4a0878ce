// pyframe.h - reads the Python frames of this thread without the GIL.    SPDX-License-Identifier: MIT
// Keeps:   whether thread states may be read (open), and frames; and which threads are reading. Each of the first
//          FLK_PYFRAME_SLOTS thread states has a slot of 64 bytes, so that no two threads write the same cache line.
//          Further thread states share slots.
// Cost:    O(depth), some loads a frame. No reference count is changed and no lock taken. A thread with its own slot
//          executes no atomic instruction; flk_pyframe_close uses a fence in all threads instead.
// Callers: any thread; the GIL may be released. CPython only; elsewhere there are no frames.
// Fails:   the walk ends at a frame that is half made, which a signal handler may see; such walks are counted.
//          0 frames in a thread without a thread state, in an interpreter for which frames were not opened, before
//          flk_pyframe_open and after flk_pyframe_close.
// Source:  layouts from the headers of each version; asymmetric fence: membarrier(2),
//          MEMBARRIER_CMD_PRIVATE_EXPEDITED.
#ifndef FLK_PYFRAME_H
#define FLK_PYFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLK_PYFRAME_SLOTS 256

// One frame: the address of its code object, without a reference, and the byte
// offset of the executing instruction (f_lasti).
typedef struct flk_raw_frame {
    const void *code;
    int32_t offset;
    uint32_t place;  // in the chain, frames left out included; 0 = innermost
} flk_raw_frame;

// The mark of a frame is the address of its executing instruction. As long as no
// code object dies, equal marks mean the same place in the same code object.
// The last mark of a whole chain is FLK_MARK_END.
typedef uintptr_t flk_frame_mark;
#define FLK_MARK_END ((flk_frame_mark)0)
#define FLK_MARK_NONE ((flk_frame_mark)1)  // the frame has no unique mark

// A frame seen before, and the address of the next one at that time. It mostly
// is the same again. Using it as a guess, the processor need not wait for the
// load of each frame's link before it reads the next frame.
typedef struct flk_frame_seen {
    flk_frame_mark mark;
    const void *next;
} flk_frame_seen;

// Reads the chain of this thread between flk_pyframe_begin, if it returns true,
// and flk_pyframe_end. In between the thread must not nest readers, take a lock
// or wait. In a signal handler that interrupted a call or a return of Python,
// the innermost frames may be those before or after it.
typedef struct flk_frame_reader {
    const void *thread_state;
    const void *frame;    // the innermost, or NULL
    flk_frame_mark mark;  // of it, or FLK_MARK_END
    void *slot;
} flk_frame_reader;
// `is_attached`: the thread holds the GIL, so its thread state is found faster.
bool flk_pyframe_begin(flk_frame_reader *reader, bool is_attached);
void flk_pyframe_end(const flk_frame_reader *reader);
// The mark of the frame behind the innermost one, which must exist; FLK_MARK_END
// if there is none, FLK_MARK_NONE if it is half made.
flk_frame_mark flk_pyframe_second_mark(const flk_frame_reader *reader);
// Reads the innermost frames of the chain, shims included, at most `seen_max`. The
// chain must have a frame.
// The last mark is FLK_MARK_NONE if the next frame is half made.
size_t flk_pyframe_collect(const flk_frame_reader *reader, flk_frame_seen *seen,
                           size_t seen_max);
// True if the chain begins with these marks. The chain must have a frame, and
// there must be at least one mark and no FLK_MARK_NONE. Updates `next` of each
// mark, which is NULL only for the last frame of a chain.
bool flk_pyframe_matches(const flk_frame_reader *reader, flk_frame_seen *seen,
                         size_t count);

// Fills in at most `frames_max` frames of the calling thread, innermost first,
// and returns how many. Shims and incomplete frames are left out, so the result
// equals that of sys._getframe() and f_back. `*is_lasting`, unless NULL, becomes
// true if the same marks mean the same frames until a code object of `frames`
// dies. It becomes false if a frame was left out whose code object can die, or
// was half made. Takes the lock of paths/sites.h.
size_t flk_pyframe_walk(flk_raw_frame *frames, size_t frames_max,
                        bool *is_lasting);
// The innermost frame, shims and incomplete frames left out. Only where Python
// objects may be made: attached, and not in a signal handler.
bool flk_pyframe_innermost(flk_raw_frame *out);

// Returns the state of this thread, or NULL. Until flk_pyframe_release it can be
// read, and so can what it refers to, such as the code objects of its frames:
// flk_pyframe_close waits. In between the thread must not nest, take a lock or
// wait.
const void *flk_pyframe_hold(void);
void flk_pyframe_release(const void *thread_state);

// Opens the thread states of the interpreter of the calling thread, and its
// frames if their layout is known. The calling thread holds the GIL. The caller
// has made sure that the death of code objects is reported, and that
// flk_pyframe_mismatch() is NULL.
void flk_pyframe_open(void);
// Nothing is read from now on (at interpreter shutdown), or no frame (if the layout
// is not the expected one). Waits for threads that are reading, at most a second.
void flk_pyframe_close(void);
void flk_pyframe_close_frames(void);
// Whether thread states are read, and frames. An unknown version of CPython has
// thread states without frames.
bool flk_pyframe_is_open(void);
bool flk_pyframe_walks(void);
// Walks that ended at a half made frame.
uint64_t flk_pyframe_cut_count(void);
void flk_pyframe_cut_clear(void);
// In the child of a fork: the other threads, which may have been reading, do not
// exist there.
void flk_pyframe_forked(void);
// Takes the GIL, or attaches to a free-threaded interpreter; no lock of the core
// is held. The result is passed to flk_pyframe_detach.
int flk_pyframe_attach(void);
void flk_pyframe_detach(int attached);
// NULL if this module was compiled for the running interpreter; otherwise a
// static text that names both.
const char *flk_pyframe_mismatch(void);

#endif
