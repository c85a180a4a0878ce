// cdata.h - cdata in and out, without a call where possible.         SPDX-License-Identifier: MIT
// Keeps:   what a plain cdata looks like inside cffi, once a probe has shown it to look so; ctypes of pointers met.
// Cost:    reading three compares, making one PyObject_Malloc; through cffi's own functions where the probe
//          failed, and for cdata of other kinds.
// Callers: the interpreter, with the GIL (or attached, where there is none).
// Source:  CDataObject of cffi's _cffi_backend.c; cffi's own functions: _cffi_include.h.
// Invariant: a ctype is among the pointers only if cffi's conversion to void * was seen to give the data of a
//            plain cdata of it. Each holds a reference, so its address names nothing else.
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

enum { FLK_CDATA_POINTER_PLACES = 16 };

typedef struct flk_cdata_layout {
    PyTypeObject *type;  // of plain cdata; NULL: it does not look as above
    _Atomic(PyObject *)
        pointers[FLK_CDATA_POINTER_PLACES];  // relaxed: compared only
} flk_cdata_layout;
extern flk_cdata_layout flk_cdata_known;

// Compares what cffi makes with the layout above. Not an error if it differs.
int flk_cdata_probe(PyObject *void_pointer);

// Through cffi.
PyObject *flk_cdata_any(void *memory, PyObject *pointer_type);
int flk_cdata_pointer_any(PyObject *object, void **memory);

// A new cdata of this pointer type; NULL with an exception set.
static inline PyObject *flk_cdata_new(void *memory, PyObject *pointer_type) {
    PyTypeObject *type = flk_cdata_known.type;
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

static inline size_t flk_cdata_pointer_place(const void *ctype) {
    return ((uintptr_t)ctype >> 4 ^ (uintptr_t)ctype >> 9) %
           FLK_CDATA_POINTER_PLACES;
}

// The address in a cdata; false with an exception set if it is no pointer.
static inline int flk_cdata_pointer(PyObject *object, void **memory) {
    const flk_cdata *cdata = (const flk_cdata *)(const void *)object;
    if (FLK_LIKELY(Py_TYPE(object) == flk_cdata_known.type) &&
        FLK_LIKELY(atomic_load_explicit(
                       &flk_cdata_known
                            .pointers[flk_cdata_pointer_place(cdata->ctype)],
                       memory_order_relaxed) == cdata->ctype)) {
        *memory = cdata->data;
        return true;
    }
    return flk_cdata_pointer_any(object, memory);
}

#endif
