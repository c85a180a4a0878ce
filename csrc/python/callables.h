// callables.h - the CPython callables behind allocators and scopes.      SPDX-License-Identifier: MIT
// Keeps:   the Python objects that the callables use (flk_callables), and which interpreter started the core.
// Cost:    a call takes neither a call of cffi nor a release of the GIL; figures: benchmarks/README.md.
// Callers: Python at import, then the interpreter; with the GIL, or attached in a free-threaded interpreter.
// Fails:   with a Python exception, except where a comment says otherwise.
// Source:  cffi's own functions make and read cdata (_cffi_include.h of cffi).
#ifndef FLK_CALLABLES_H
#define FLK_CALLABLES_H

#ifndef FLK_PLAIN_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "api/api.h"
#include "tracker/context.h"

// References that last until the process ends. Set by set_up().
typedef struct flk_callables_context {
    PyObject *variable;       // ContextVar: the current Scope or None
    PyObject *names;          // dict: scope number -> name
    PyObject *report_misuse;  // callable(misuse as bytes, pointer or None)
    PyObject *note_thread;    // callable(): notes the name of this thread
    PyObject *void_pointer;   // ctype void *
    PyObject *type_of;        // callable(cdata): its ctype
    PyObject *own;            // callable(cdata, finalizer): ffi.gc
    PyObject *process_top;    // the innermost process Scope, or None
} flk_callables_context;
extern flk_callables_context flk_callables;

// The scope of an allocation that happens now, for flk_origin. Never fails.
uint32_t flk_scopes_open(void);
static inline uint32_t flk_scopes_now(void) {
    return FLK_LIKELY(
               !atomic_load_explicit(&flk_contexts_open, memory_order_relaxed))
               ? FLK_SCOPE_NONE
               : flk_scopes_open();
}
// Lets the core read contexts; NULL, or a text that says why it cannot.
const char *flk_scopes_read_contexts(void);
// A new reference to the innermost scope that has not ended. NULL without an
// exception: there is none.
PyObject *flk_scopes_current(void);

// Initializes a new cdata. Before 3.13 an object tracker may replace
// PyObject_Init by a function that also records the creation.
#if PY_VERSION_HEX >= 0x030D0000
#define flk_objects_init PyObject_Init
#else
extern PyObject *(*flk_objects_init)(PyObject *, PyTypeObject *);
#endif

// Add their types and functions to the module; -1 with an exception.
int flk_scopes_add(PyObject *module);
int flk_allocator_add(PyObject *module);
// From now on hooks see what the interpreter's allocators free.
void flk_memory_install(void);
#endif

// Called once by the generated module (csrc/build_ffi.py), at import, with
// cffi's table of functions.
void flk_cdata_bind(void **exports);
// The functions below get the address of a Python module (its id()) and add
// an attribute to it. 1: done; 0: this interpreter cannot have it.
// `claim`: a function that returns None if its interpreter may use the core,
// "subinterpreter", or "finalized": an interpreter that was finalized since
// has used the core.
int flk_callables_add_claim(void *module);
// `callables`: the callables of allocators and scopes.
int flk_callables_install(void *module);
// `objects`: the functions for Python objects and observers.
int flk_object_views_install(void *module);

#endif
