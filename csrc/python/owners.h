// owners.h - ffi.new, ffi.new_handle and ffi.gc that record what a cdata owns.  SPDX-License-Identifier: MIT
// Keeps:   a weak reference for each recorded cdata that owns its memory, in a dictionary of the Python module
//          (ffi_leak_tracker/_handles/interface.py): it removes the record when the cdata dies.
// Cost:    off, a load and the call; on, a record, a dictionary entry and a weak reference more. Figures:
//          benchmarks/handles_cost.py.
// Callers: the interpreter, with the GIL, or attached in a free-threaded interpreter.
// Fails:   as the method of cffi. What is unusual goes to the Python function `slow`, which decides alone.
// Invariant: what a method does without `slow` is what `slow` would do.
#ifndef FLK_OWNERS_H
#define FLK_OWNERS_H

#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
// Adds the types and functions to the module; -1 with an exception.
int flk_owners_add(PyObject *module);
#endif

#endif
