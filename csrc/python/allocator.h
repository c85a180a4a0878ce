// allocator.h - the C object behind a Python Allocator, and its hot functions.  SPDX-License-Identifier: MIT
// Keeps:   flk_allocator: small caches from the type arguments of calls to what they mean.
// Cost:    a cached type argument costs one compare.
// Callers: python/allocator.c, with the GIL. In a free-threaded interpreter the thread is attached, and the caches are
//          read and written in a critical section.
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

enum { FLK_ALLOCATOR_CACHED = 8 };  // entries of each cache; a power of two

// The meaning of a type argument. The key is compared by identity, and the
// reference to it keeps its address from being reused.
typedef struct flk_known_type {
    PyObject *key;
    PyObject *pointer_type;
    size_t item_bytes;
    uint16_t type;
} flk_known_type;

typedef struct flk_known_maker {
    PyObject *key;
    PyObject *maker;  // a result of ffi.new_allocator
    PyObject *ctype;
    PyObject *release;  // the finalizer of a plain item, or NULL
    size_t item_bytes;
    uint16_t type;
} flk_known_maker;

typedef struct flk_allocator {
    PyObject_HEAD vectorcallfunc vectorcall;
    char is_zeroed, is_tracking;
    uint16_t any_type;
    flk_known_type types[FLK_ALLOCATOR_CACHED];     // by a call's argument
    flk_known_type pointees[FLK_ALLOCATOR_CACHED];  // by a pointer's ctype
    flk_known_maker makers[FLK_ALLOCATOR_CACHED];   // by an argument of new()
} flk_allocator;

// The cache entry for a key.
static inline size_t flk_allocator_index(const PyObject *key) {
    FLK_ASSERT(key);
    return ((uintptr_t)key >> 4 ^ (uintptr_t)key >> 9) &
           (FLK_ALLOCATOR_CACHED - 1);
}

// --- memory ------------------------------------------------------------
// Lets Python note the name of this thread, once.
void flk_callables_note_thread(void);

// The origin of an allocation that happens now.
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

// The block of a thread that has none yet; NULL: no memory.
static FLK_NOINLINE flk_thread *flk_allocator_first(void) {
    flk_thread *thread = flk_thread_enter();
    if (thread)
        flk_thread_leave(thread);
    return thread;
}

// Marks the thread as holding the GIL until flk_allocator_detach, so that its
// thread state is found without a search. NULL: no memory.
static FLK_HOT flk_thread *flk_allocator_attach(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    if (FLK_UNLIKELY(!thread))
        thread = flk_allocator_first();
    if (FLK_LIKELY(thread != NULL)) {
        FLK_ASSERT(PyGILState_Check());
        thread->is_attached = true;
    }
    return thread;
}

static FLK_HOT void flk_allocator_detach(flk_thread *thread) {
    if (FLK_LIKELY(thread != NULL))
        thread->is_attached = false;
}

static FLK_HOT void *flk_allocator_allocate(size_t bytes, bool zeroed,
                                            const flk_origin *origin) {
    FLK_ASSERT(origin);
    flk_thread *thread = flk_allocator_attach();
    void *memory = flk_heap_allocate(bytes, 0, zeroed, origin);
    flk_allocator_detach(thread);
    return memory;
}

static FLK_HOT int flk_allocator_release(void *memory, uint16_t type,
                                         flk_misuse *out) {
    FLK_ASSERT(out);
    flk_thread *thread = flk_allocator_attach();
    int verdict = flk_heap_free(memory, type, FLK_PATH_WALK, out);
    flk_allocator_detach(thread);
    return verdict;
}

// --- the unusual cases -------------------------------------------------
// Calls the Python method of that name with the same arguments.
PyObject *flk_callables_fall_back(PyObject *self, const char *method,
                                  PyObject *const *args, Py_ssize_t count,
                                  PyObject *keywords);
// Raises, warns or counts, as the misuse policy says. NULL: it raised.
PyObject *flk_callables_report(const flk_misuse *misuse, PyObject *pointer);

// The method new(), and the type that holds its two functions.
PyObject *flk_allocator_new(PyObject *self, PyObject *const *args,
                            Py_ssize_t count, PyObject *keywords);
extern PyType_Spec flk_allocator_owner_spec;

#endif
