// cdata.h - makes and reads cdata, without cffi's functions where possible.  SPDX-License-Identifier: MIT
// Keeps:   the type and the layout of a plain cdata, learned from a probe; ctypes of pointers that were read.
// Cost:    reading takes three compares, making one PyObject_Malloc. cffi's functions are called where the probe found
//          another layout, and for a pointer type that is read for the first time.
// Callers: the interpreter, with the GIL, or attached in a free-threaded interpreter.
// Source:  CDataObject in cffi's _cffi_backend.c; cffi's functions: _cffi_include.h.
// Invariant: a plain cdata does not own its memory. Each cdata that does has another type (ffi.new, ffi.gc,
//            ffi.new_handle, ffi.from_buffer), and flk_cdata_pointer refuses it.
// Invariant: `pointers` holds a ctype only if cffi's conversion to void * gave the data of a plain cdata of that ctype.
//            The reference keeps its address from being reused.
#ifndef FLK_CDATA_H
#define FLK_CDATA_H

#include <stdbool.h>

#include "base/platform.h"
#include "python/callables.h"

typedef struct flk_cdata {
    PyObject_HEAD PyObject *ctype;
    void *data;
    PyObject *weak_references;
} flk_cdata;

enum { FLK_CDATA_POINTER_TYPES = 16 };  // entries of the cache

typedef struct flk_cdata_layout {
    PyTypeObject *plain;  // the type of cdata that own nothing
    PyTypeObject *type;   // the same; NULL if its layout is another
    // Relaxed: entries are only compared.
    _Atomic(PyObject *) pointers[FLK_CDATA_POINTER_TYPES];
} flk_cdata_layout;
extern flk_cdata_layout flk_cdata_known;

// Compares a cdata that cffi made with the layout above. Another layout is no
// error. -1 with an exception: cffi could not make it.
int flk_cdata_probe(PyObject *void_pointer);

// The two functions below through cffi.
PyObject *flk_cdata_any(void *memory, PyObject *pointer_type);
int flk_cdata_pointer_any(PyObject *object, void **memory);
// The address in any cdata that is a pointer or an array, also if it owns its
// memory. False without an exception: it is none.
bool flk_cdata_address(PyObject *object, void **memory);

// A new plain cdata of this pointer type; NULL with an exception.
static inline PyObject *flk_cdata_new(void *memory, PyObject *pointer_type) {
    PyTypeObject *type = flk_cdata_known.type;
    FLK_ASSERT(pointer_type);
    if (FLK_UNLIKELY(!type))
        return flk_cdata_any(memory, pointer_type);
    flk_cdata *made = PyObject_Malloc(sizeof *made);
    if (FLK_UNLIKELY(!made))
        return PyErr_NoMemory();
    made->ctype = Py_NewRef(pointer_type);
    made->data = memory;
    made->weak_references = NULL;
    return flk_objects_init((PyObject *)made, type);
}

static inline size_t flk_cdata_pointer_index(const void *ctype) {
    return ((uintptr_t)ctype >> 4 ^ (uintptr_t)ctype >> 9) %
           FLK_CDATA_POINTER_TYPES;
}

// The address in a plain cdata. False with an exception: the object is no
// pointer, or owns its memory.
static inline int flk_cdata_pointer(PyObject *object, void **memory) {
    const flk_cdata *cdata = (const flk_cdata *)(const void *)object;
    FLK_ASSERT(object && memory);
    if (FLK_LIKELY(Py_TYPE(object) == flk_cdata_known.type) &&
        FLK_LIKELY(atomic_load_explicit(
                       &flk_cdata_known
                            .pointers[flk_cdata_pointer_index(cdata->ctype)],
                       memory_order_relaxed) == cdata->ctype)) {
        *memory = cdata->data;
        return true;
    }
    return flk_cdata_pointer_any(object, memory);
}

#endif
