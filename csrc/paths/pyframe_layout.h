// pyframe_layout.h - the layout of a frame in each version of CPython.   SPDX-License-Identifier: MIT
// Keeps:   nothing. Includes Python.h with the internal headers, so it must come before all other includes, and is
//          included by paths/pyframe.c only.
// Gives:   HAS_THREAD_STATES if this is a CPython. HAS_WALKER if the layout of this version is known; then frame_type,
//          FIRST_FRAME, NEXT_FRAME, read_frame and mark_of. FLK_UNKNOWN_PYTHON (csrc/build_ffi.py) says that this version
//          is not known, which tests use.
// Cost:    inline; three loads a frame from 3.11 on.
// Source:  Include/internal/pycore_frame.h (3.11-3.13), pycore_interpframe.h (3.14, 3.15), frameobject.h (3.10).
#ifndef FLK_PYFRAME_LAYOUT_H
#define FLK_PYFRAME_LAYOUT_H

#if !defined(FLK_PLAIN_PYTHON)
#include <patchlevel.h>  // PY_VERSION_HEX
#define HAS_THREAD_STATES 1
#endif
#if defined(HAS_THREAD_STATES) && !defined(FLK_UNKNOWN_PYTHON) && \
    PY_VERSION_HEX >= 0x030A0000 && PY_VERSION_HEX < 0x03100000
#define HAS_WALKER 1
#endif
#if defined(HAS_WALKER) && PY_VERSION_HEX >= 0x030B0000
#define Py_BUILD_CORE_MODULE 1  // only internal headers declare frames
#endif
#if defined(HAS_THREAD_STATES)
#include <Python.h>
#endif

#include "base/platform.h"
#include "paths/pyframe.h"

#if defined(HAS_WALKER)
#include <frameobject.h>
#if PY_VERSION_HEX >= 0x030E0000
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"  // in headers of 3.15
#include "internal/pycore_interpframe.h"
#pragma GCC diagnostic pop
#elif PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#endif

#if PY_VERSION_HEX < 0x030B0000
typedef PyFrameObject frame_type;
#define FIRST_FRAME(tstate) ((tstate)->frame)
#define NEXT_FRAME(frame) ((frame)->f_back)
#define IS_OF_C(frame) ((void)(frame), false)

static inline bool read_frame(const frame_type *frame, bool is_dying,
                              flk_raw_frame *out) {
    (void)is_dying;
    out->code = frame->f_code;
    out->offset = frame->f_lasti < 0
                      ? -1
                      : frame->f_lasti * (int32_t)sizeof(_Py_CODEUNIT);
    return true;
}

// Code objects may share their instructions, so the mark holds the address of
// the code object (aligned to 16 bytes, 48 bits) and the offset. A frame at an
// offset that does not fit has no mark.
static inline flk_frame_mark mark_of(const frame_type *frame) {
    uint32_t place = (uint32_t)(frame->f_lasti + 1);
    if (FLK_UNLIKELY(place >= 1u << 19))
        return FLK_MARK_NONE;
    return ((flk_frame_mark)(uintptr_t)frame->f_code >> 4 << 20) |
           (flk_frame_mark)place << 1;
}
#else
typedef _PyInterpreterFrame frame_type;
#define NEXT_FRAME(frame) ((frame)->previous)

#if PY_VERSION_HEX < 0x030D0000
#define FIRST_FRAME(tstate) ((tstate)->cframe->current_frame)
#define INSTRUCTION(frame) ((const char *)(frame)->prev_instr)
#define EXECUTABLE(frame) ((PyCodeObject *)(frame)->f_code)
#else
#define FIRST_FRAME(tstate) ((tstate)->current_frame)
#define INSTRUCTION(frame) ((const char *)(frame)->instr_ptr)
#if PY_VERSION_HEX < 0x030E0000
#define EXECUTABLE(frame) ((PyCodeObject *)(frame)->f_executable)
#else
#define EXECUTABLE(frame) \
    ((PyCodeObject *)PyStackRef_AsPyObjectBorrow((frame)->f_executable))
#endif
#endif

// A shim is the frame of a call from C into the interpreter. It runs a trampoline
// before its first traceable instruction (3.12), or has no code object (3.13).
#if PY_VERSION_HEX < 0x030D0000
#define IS_SHIM(frame) ((void)(frame), false)
#elif PY_VERSION_HEX < 0x030E0000
#define IS_SHIM(frame) ((frame)->owner >= FRAME_OWNED_BY_CSTACK)
#else
#define IS_SHIM(frame) ((frame)->owner >= FRAME_OWNED_BY_INTERPRETER)
#endif

// True for a frame without a code object that can die.
#if PY_VERSION_HEX < 0x030C0000
#define IS_OF_C(frame) ((void)(frame), false)
#elif PY_VERSION_HEX < 0x030D0000
#define IS_OF_C(frame) ((frame)->owner >= FRAME_OWNED_BY_CSTACK)
#else
#define IS_OF_C(frame) IS_SHIM(frame)
#endif

#if PY_VERSION_HEX >= 0x030E0000 && defined(Py_GIL_DISABLED)
// Each thread except the first runs its own copy of the bytecode. Another thread
// may replace the array of copies. The old array is freed later, but without
// waiting for detached threads; hence the pointer is loaded a second time.
static inline const char *code_start(const frame_type *frame,
                                     PyCodeObject *code) {
    if (frame->tlbc_index == 0)
        return (const char *)_PyCode_CODE(code);
    const char *start;
    _PyCodeArray *copies = _PyCode_GetTLBCArray(code), *seen;
    do {
        seen = copies;
        start = seen->entries[frame->tlbc_index];
        atomic_thread_fence(memory_order_acquire);
        copies = _PyCode_GetTLBCArray(code);
    } while (FLK_UNLIKELY(copies != seen));
    return start;
}
#else
static inline const char *code_start(const frame_type *frame,
                                     PyCodeObject *code) {
    (void)frame;
    return (const char *)_PyCode_CODE(code);
}
#endif

// False for frames that sys._getframe() passes over (_PyFrame_IsIncomplete):
// shims, and frames before their first RESUME unless a generator owns them. A
// code object that dies with its frame is not read: the frame was running.
static inline bool read_frame(const frame_type *frame, bool is_dying,
                              flk_raw_frame *out) {
    if (IS_SHIM(frame))
        return false;
    PyCodeObject *code = EXECUTABLE(frame);
    int64_t offset = INSTRUCTION(frame) - code_start(frame, code);
    out->code = code;
    out->offset = (int32_t)offset;
    if (FLK_UNLIKELY(is_dying))
        return true;
    int64_t first = code->_co_firsttraceable * (int64_t)sizeof(_Py_CODEUNIT);
    return FLK_LIKELY(offset >= first) ||
           frame->owner == FRAME_OWNED_BY_GENERATOR;
}

// Instructions belong to one code object, or to a thread's copy of it.
static inline flk_frame_mark mark_of(const frame_type *frame) {
    return (flk_frame_mark)(uintptr_t)INSTRUCTION(frame);
}
#endif

#endif
#endif
