// callables.h - the CPython callables behind allocators and scopes.           SPDX-License-Identifier: MIT
// Keeps:   what Python hands over once (flk_callables_context).
// Cost:    no cffi call, no GIL release: see benchmarks/README.md.
// Callers: the module at import, then the interpreter, with the GIL (or attached, where there is none).
// Source:  shared/design.md decision 4; cffi's own functions make and read the cdata (_cffi_include.h).
#ifndef FLK_CALLABLES_H
#define FLK_CALLABLES_H

#ifndef PYPY_VERSION
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "api/api.h"
#include "tracker/context.h"

// What Python code supplies, in the order of flk_fast_set_up's arguments.
typedef struct flk_callables_context {
    PyObject *variable;      // ContextVar: the current Scope or None
    PyObject *names;         // dict: scope number -> name
    PyObject *told;          // callable(misuse bytes, pointer or None)
    PyObject *note_thread;   // callable(): a new thread allocates
    PyObject *void_pointer;  // ctype void *
    PyObject *type_of;       // callable: the ctype of a cdata
    PyObject *own;           // callable(cdata, finalizer): ffi.gc
    PyObject *process_top;   // the innermost process Scope, or None
} flk_callables_context;
extern flk_callables_context flk_callables;

// The scope number for an allocation made here, FLK_SCOPE_NONE for none.
uint32_t flk_scopes_open(void);  // some context scope is open
static inline uint32_t flk_scopes_now(void) {
    return FLK_LIKELY(
               !atomic_load_explicit(&flk_contexts_open, memory_order_relaxed))
               ? FLK_SCOPE_NONE
               : flk_scopes_open();
}
// A new reference to the innermost live scope, or NULL for none (no error).
PyObject *flk_scopes_current(void);

// What makes a cdata of ours: PyObject_Init, or what also tells of it.
#if PY_VERSION_HEX >= 0x030D0000
#define flk_objects_init PyObject_Init  // the interpreter tells
#else
extern PyObject *(*flk_objects_init)(PyObject *, PyTypeObject *);
#endif

// Add their types to the module; -1 with an exception set.
int flk_scopes_add(PyObject *module);
int flk_allocator_add(PyObject *module);
#endif

// Called by the generated module (csrc/build_ffi.py), at import.
void flk_cdata_bind(void **exports);
// Adds the attribute `fast` to the Python module at this address (its id()).
// 1 done; 0 not to be had in this interpreter.
int flk_callables_install(void *module);
// The same for the attribute `objects`: what python/objects.c has for Python.
int flk_object_views_install(void *module);

#endif
