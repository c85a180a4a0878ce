// wrappers.h - C functions of cffi that record what they give and take.  SPDX-License-Identifier: MIT
// Keeps:   the dictionary of live handles, which the Python ledger owns as well (flk_wrappers).
// Cost:    off, a load or two and the call; a recorded constructor costs a dictionary entry and a record more, a
//          destructor the removal of both. Figures: benchmarks/handles_cost.py.
// Callers: the interpreter, with the GIL, or attached in a free-threaded interpreter.
// Fails:   as the function of cffi. What is unusual goes to the Python function `slow`, which decides alone.
// Invariant: what a wrapper does without `slow` is what `slow` would do (ffi_leak_tracker/_handles/functions.py).
// Invariant: an object is removed before its destructor is called, so a thread that gets its address next is recorded.
#ifndef FLK_WRAPPERS_H
#define FLK_WRAPPERS_H

#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
// References that last until the process ends. Set by set_up_wrappers().
typedef struct flk_wrappers_context {
    PyObject *live;        // dict: negative address -> sort of handle
    PyObject *counts;      // dict: negative address -> references
    PyTypeObject *type;    // of wrapped functions; the module keeps it
    PyObject *zero;        // 0
    PyObject *is_result;   // callable(error): C was called all the same
    atomic_bool is_asked;  // track() recorded objects, so `live` lacks some
} flk_wrappers_context;
extern flk_wrappers_context flk_wrappers;

// Records an object at an address. Returns its key in `live`, or None if tracking
// is off; NULL with an exception.
PyObject *flk_wrappers_enter(const void *address, size_t size, uint16_t type,
                             PyObject *sort);
// Removes the record of a key. An exception may be set if there is none.
void flk_wrappers_forget(PyObject *key);
// Whether an object is recorded at the address, by wrappers.
bool flk_wrappers_is_live(const void *address);
// Whether a wrapper is right, as far as is known, as the destructor of a pointer. An
// object that is not recorded has no wrong one.
bool flk_wrappers_may_destroy(PyObject *destructor, PyObject *pointer);
// Adds the type and its functions to the module; -1 with an exception.
int flk_wrappers_add(PyObject *module);
#endif

#endif
