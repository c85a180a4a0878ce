// pyframe_trust.h - frames that are half made.                           SPDX-License-Identifier: MIT
// A signal handler may run between any two instructions of the interpreter. Then the link to the innermost frame may
// not be set yet (3.11 and 3.12 keep it in a variable of a C function), the frame may have no link to the next one (a
// compiler stores in any order), or its memory or its code object is released already (3.11). So an address that was
// not confirmed is a frame only if it lies where this thread has frames, and an object is a code object only if it is
// known to be one. Included by paths/pyframe.c only, after paths/pyframe_layout.h.
// Keeps:   a part of the C stack where this thread was seen to have frames (flk_stack_part), and code objects that are
//          never left out of a walk again.
// Cost:    inline for a frame in the newest chunk of the data stack; otherwise a search, at worst a system call.
// Invariant: nothing here reads memory that is not known to be readable.
#ifndef FLK_PYFRAME_TRUST_H
#define FLK_PYFRAME_TRUST_H

#include "paths/pyframe_layout.h"
#include "paths/sites.h"

#if defined(HAS_WALKER)
// A range of a C stack that holds frames of one thread state.
typedef struct flk_stack_part {
    uint64_t id;  // of the thread state; the part of another one is not used
    uintptr_t low, high;
} flk_stack_part;

// Where a walk has come to.
typedef struct flk_way {
    const PyThreadState *thread_state;
    // From 3.11 on: the generator that was reached, or the innermost if NULL.
    const _PyErr_StackItem *raised;
} flk_way;

#if PY_VERSION_HEX < 0x030B0000
// Frames are objects, complete before they are linked, and linked until they
// end.
static inline bool is_in_newest_chunk(const PyThreadState *thread_state,
                                      const frame_type *frame) {
    (void)thread_state;
    return frame != NULL;
}
static inline bool may_be_frame(flk_way *way, const frame_type *frame) {
    (void)way, (void)frame;
    return true;
}
static inline bool is_first_usual(const PyThreadState *thread_state,
                                  const frame_type *frame) {
    (void)thread_state, (void)frame;
    return true;
}
static inline bool is_code_of(const frame_type *frame, bool *is_dying) {
    (void)frame, (void)is_dying;
    return true;
}
#else
// The part of a thread state; NULL if several threads would share it.
static flk_stack_part *part_of(const PyThreadState *thread_state);

enum {
    FRAME_BYTES = offsetof(frame_type, localsplus),
    STACK_GAP_MAX = 256 * 1024,  // between two frames on one C stack
    SHIM_CODES = 4,
};

// --- where frames are ----------------------------------------------------
// In the newest chunk of the data stack, below its top; false for NULL. (It is
// true for any other address in a thread that never had a chunk. The first frame
// of a thread is in one, unless C code first resumes a generator there.)
static inline bool is_in_newest_chunk(const PyThreadState *thread_state,
                                      const frame_type *frame) {
    uintptr_t top = (uintptr_t)thread_state->datastack_top;
    return (uintptr_t)frame <= top - FRAME_BYTES &&
           (uintptr_t)frame > (uintptr_t)thread_state->datastack_chunk;
}

// A generator that runs is linked by its exceptions, and holds its frame.
static inline bool is_in_generator(const _PyErr_StackItem *raised,
                                   const frame_type *frame) {
    enum {
        DISTANCE = offsetof(PyGenObject, gi_iframe) -
        offsetof(PyGenObject, gi_exc_state)
    };
    return (uintptr_t)frame - (uintptr_t)raised == DISTANCE;
}

static bool is_in_a_generator(flk_way *way, const frame_type *frame) {
    const _PyErr_StackItem *raised =
        way->raised ? way->raised : way->thread_state->exc_info;
    for (; raised; raised = raised->previous_item)
        if (is_in_generator(raised, frame)) {
            way->raised = raised;  // the frames further out are further on
            return true;
        }
    return false;
}

// Whether the frame lies in a chunk of the data stack, and there in the part
// that is used.
typedef enum flk_in_chunk { OUTSIDE, UNUSED, USED } flk_in_chunk;

static flk_in_chunk place_in_chunks(const PyThreadState *thread_state,
                                    const frame_type *frame) {
    const _PyStackChunk *chunk = thread_state->datastack_chunk;
    uintptr_t top = (uintptr_t)thread_state->datastack_top;
    for (; chunk; chunk = chunk->previous) {
        uintptr_t start = (uintptr_t)chunk, at = (uintptr_t)frame;
        if (at >= start && at - start < chunk->size)
            return at <= top - FRAME_BYTES ? USED : UNUSED;
        if (chunk->previous)
            top = (uintptr_t)(chunk->previous->data + chunk->previous->top);
    }
    return OUTSIDE;
}

static bool is_in_part(const flk_stack_part *part, uint64_t id,
                       const frame_type *frame) {
    return part->id == id && (uintptr_t)frame >= part->low &&
           (uintptr_t)frame + FRAME_BYTES <= part->high;
}

// What lies between two frames of one stack can be read.
static void part_extend(flk_stack_part *part, uint64_t id,
                        const frame_type *frame) {
    uintptr_t low = (uintptr_t)frame, high = low + FRAME_BYTES;
    bool is_near = part->id == id && low + STACK_GAP_MAX >= part->low &&
                   high <= part->high + STACK_GAP_MAX;
    if (is_near && low > part->low)
        low = part->low;
    if (is_near && high < part->high)
        high = part->high;
    *part = (flk_stack_part){id, low, high};
}

// Frames of 3.12 and later on the C stack; frames of generators that are thrown
// into; frames that belong to a frame object.
static FLK_NOINLINE bool may_be_frame_elsewhere(flk_way *way,
                                                const frame_type *frame) {
    if ((uintptr_t)frame % _Alignof(frame_type) != 0)
        return false;
    uint64_t id = way->thread_state->id;
    flk_stack_part *part = part_of(way->thread_state);
    if ((part && is_in_part(part, id, frame)) || is_in_a_generator(way, frame))
        return true;
    flk_in_chunk place = place_in_chunks(way->thread_state, frame);
    if (place != OUTSIDE)
        return place == USED;
    if (!flk_platform_can_read(frame, FRAME_BYTES))
        return false;
    if (part)
        part_extend(part, id, frame);
    return true;
}

// True if the frame can be read.
static inline bool may_be_frame(flk_way *way, const frame_type *frame) {
    return FLK_LIKELY(is_in_newest_chunk(way->thread_state, frame)) ||
           may_be_frame_elsewhere(way, frame);
}

// For the link to the innermost frame. From 3.13 on it is in the thread state,
// and always set.
static inline bool is_first_usual(const PyThreadState *thread_state,
                                  const frame_type *frame) {
#if PY_VERSION_HEX < 0x030D0000
    return FLK_LIKELY(is_in_newest_chunk(thread_state, frame)) || !frame ||
           is_in_generator(thread_state->exc_info, frame);
#else
    (void)thread_state, (void)frame;
    return true;
#endif
}

// --- code objects --------------------------------------------------------
// Code objects of frames that are never shown; they live as long as the
// interpreter, and are not known to paths/sites.h.
static _Atomic(const void *) shim_codes[SHIM_CODES];

static bool is_shim_code(const PyCodeObject *code) {
    FLK_ASSERT(code != NULL);
    for (int i = 0; i < SHIM_CODES; i++)
        if (atomic_load_explicit(&shim_codes[i], memory_order_relaxed) == code)
            return true;
    return false;
}

static void note_shim_code(const PyCodeObject *code) {
    if (code->_co_firsttraceable < Py_SIZE(code))
        return;
    for (int i = 0; i < SHIM_CODES; i++) {
        const void *none = NULL;
        if (atomic_compare_exchange_strong(&shim_codes[i], &none, code))
            return;
    }
}

// A code object that was released keeps neither its count nor, mostly, its type.
static bool is_code_object(const PyCodeObject *code) {
    if ((uintptr_t)code % _Alignof(PyCodeObject) != 0 ||
        !flk_platform_can_read(code, sizeof *code) ||
        !Py_IS_TYPE((PyObject *)code, &PyCode_Type))
        return false;
#if PY_VERSION_HEX < 0x030C0000
    return Py_REFCNT(code) > 0 && Py_REFCNT(code) < INT32_MAX;
#else
    return true;
#endif
}

static bool is_known_code(const PyCodeObject *code, bool *is_dying) {
    if (!code)
        return false;
    flk_code_state state = flk_sites_state(code);
    *is_dying = state == FLK_CODE_DYING;
    if (state != FLK_CODE_UNKNOWN || is_shim_code(code))
        return true;
    if (!is_code_object(code))
        return false;
    note_shim_code(code);
    return true;
}

// True if the frame has a code object and executes an instruction of it. A dying
// code object must not be read.
static bool is_code_of(const frame_type *frame, bool *is_dying) {
    FLK_ASSERT(frame && is_dying);
    if (IS_SHIM(frame))
        return true;
    PyCodeObject *code = EXECUTABLE(frame);
    if (!is_known_code(code, is_dying))
        return false;
    if (*is_dying)
        return true;
    int64_t offset = INSTRUCTION(frame) - code_start(frame, code);
    int64_t end = Py_SIZE(code) * (int64_t)sizeof(_Py_CODEUNIT);
    return offset >= -(int64_t)sizeof(_Py_CODEUNIT) && offset < end;
}
#endif
#endif
#endif
