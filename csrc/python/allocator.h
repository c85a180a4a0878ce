// allocator.h - what the callables of an allocator share.                SPDX-License-Identifier: MIT
// Keeps:   flk_allocator, the C part of a Python Allocator: what its type arguments were found to mean.
// Cost:    a type argument seen before: one compare. Callers: python/allocator.c, python/allocator_owned.c, with the GIL (or
//          attached, where there is none: then the caches are read in a critical section).
#ifndef FLK_ALLOCATOR_H
#define FLK_ALLOCATOR_H

#include "base/platform.h"
#include "paths/thread.h"
#include "python/callables.h"
#include "tracker/heap.h"

#ifdef Py_GIL_DISABLED
#define FLK_LOCK_CACHE(self) Py_BEGIN_CRITICAL_SECTION(self)
#define FLK_UNLOCK_CACHE() Py_END_CRITICAL_SECTION()
#else
#define FLK_LOCK_CACHE(self) {
#define FLK_UNLOCK_CACHE() }
#endif

enum { FLK_ALLOCATOR_PLACES = 8 };

// A type argument seen before, by identity (the key is kept alive).
typedef struct flk_known_type {
    PyObject *key;
    PyObject *pointer_type;
    size_t item_bytes;
    uint16_t type;
} flk_known_type;

typedef struct flk_known_maker {
    PyObject *key;
    PyObject *maker;  // what ffi.new_allocator returned
    PyObject *ctype;
    PyObject *release;  // the finalizer of a plain item, or NULL
    size_t item_bytes;
    uint16_t type;
} flk_known_maker;

typedef struct flk_allocator {
    PyObject_HEAD vectorcallfunc vectorcall;
    char is_zeroed, is_tracking;
    uint16_t any_type;
    flk_known_type types[FLK_ALLOCATOR_PLACES];  // by the argument of a call
    // By the ctype of a pointer, for realloc.
    flk_known_type pointees[FLK_ALLOCATOR_PLACES];
    flk_known_maker makers[FLK_ALLOCATOR_PLACES];
} flk_allocator;

static inline size_t flk_allocator_place(PyObject *key) {
    return ((uintptr_t)key >> 4 ^ (uintptr_t)key >> 9) &
           (FLK_ALLOCATOR_PLACES - 1);
}

// --- memory ------------------------------------------------------------
// Python is told that this thread allocates, so that it can name it.
void flk_callables_note_thread(void);

static FLK_HOT flk_origin flk_allocator_origin(bool tracks, uint16_t type) {
    flk_origin origin = {type, FLK_SCOPE_NOWHERE, FLK_PATH_WALK};
    if (tracks && flk_tracker_is_enabled()) {
        const flk_thread *thread = flk_platform_thread_pointer();
        if (FLK_UNLIKELY(!thread || !thread->is_noted))
            flk_callables_note_thread();
        origin.scope = flk_scopes_now();
    }
    return origin;
}

// The first event of a thread: its block, or NULL.
static FLK_NOINLINE flk_thread *flk_allocator_first(void) {
    flk_thread *thread = flk_thread_enter();
    if (thread)
        flk_thread_leave(thread);
    return thread;
}

// While C code of ours runs with the GIL, finding the thread state is cheap.
static FLK_HOT flk_thread *flk_allocator_attach(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    if (FLK_UNLIKELY(!thread))
        thread = flk_allocator_first();
    if (FLK_LIKELY(thread != NULL))
        thread->is_attached = true;
    return thread;
}

static FLK_HOT void flk_allocator_detach(flk_thread *thread) {
    if (FLK_LIKELY(thread != NULL))
        thread->is_attached = false;
}

static FLK_HOT void *flk_allocator_allocate(size_t bytes, bool zeroed,
                                            const flk_origin *origin) {
    flk_thread *thread = flk_allocator_attach();
    void *memory = flk_heap_allocate(bytes, 0, zeroed, origin);
    flk_allocator_detach(thread);
    return memory;
}

static FLK_HOT int flk_allocator_release(void *memory, uint16_t type,
                                         flk_misuse *out) {
    flk_thread *thread = flk_allocator_attach();
    int verdict = flk_heap_free(memory, type, FLK_PATH_WALK, out);
    flk_allocator_detach(thread);
    return verdict;
}

// --- what is unusual ---------------------------------------------------
// The Python method of that name with the same arguments.
PyObject *flk_callables_slowly(PyObject *self, const char *method,
                               PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords);
// Raises, warns or counts, as the user wants it.
PyObject *flk_callables_tell(const flk_misuse *misuse, PyObject *pointer);

// .new and the type of its finalizers.
PyObject *flk_allocator_new(PyObject *self, PyObject *const *args,
                            Py_ssize_t count, PyObject *keywords);
extern PyType_Spec flk_allocator_owner_spec;

#endif
