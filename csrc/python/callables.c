// callables.c - installs the callables. Contract: python/callables.h.             SPDX-License-Identifier: MIT
#include "python/callables.h"

#ifndef PYPY_VERSION
#include "python/allocator.h"
#include "python/cdata.h"
#include "tracker/tracker.h"

flk_callables_context flk_callables;

// --- what Python hands over --------------------------------------------
static void keep(PyObject **place, PyObject *object) {
    Py_INCREF(object);
    Py_XSETREF(*place, object);
}

static PyObject *set_up(PyObject *self, PyObject *args) {
    PyObject *variable, *names, *told, *note_thread, *void_pointer, *type_of;
    PyObject *own;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO!OOOOO", &variable, &PyDict_Type, &names,
                          &told, &note_thread, &void_pointer, &type_of, &own))
        return NULL;
    keep(&flk_callables.variable, variable);
    keep(&flk_callables.names, names);
    keep(&flk_callables.told, told);
    keep(&flk_callables.note_thread, note_thread);
    keep(&flk_callables.void_pointer, void_pointer);
    keep(&flk_callables.type_of, type_of);
    keep(&flk_callables.own, own);
    keep(&flk_callables.process_top, Py_None);
    if (flk_cdata_probe(void_pointer) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_process_top(PyObject *self, PyObject *scope) {
    (void)self;
    keep(&flk_callables.process_top, scope);
    Py_RETURN_NONE;
}

static PyObject *current_number(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLong(flk_scopes_now());
}

static PyObject *current_scope(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    PyObject *scope = flk_scopes_current();
    if (scope)
        return scope;
    return PyErr_Occurred() ? NULL : Py_NewRef(flk_callables.process_top);
}

// --- what needs Python -------------------------------------------------
void flk_callables_note_thread(void) {
    PyObject *result = PyObject_CallNoArgs(flk_callables.note_thread);
    if (!result)
        PyErr_Clear();
    Py_XDECREF(result);
    flk_thread *thread = flk_platform_thread_pointer();
    if (thread)
        thread->is_noted = true;
}

PyObject *flk_callables_slowly(PyObject *self, const char *method,
                               PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords) {
    PyObject *slow = PyObject_GetAttrString(self, method);
    if (!slow)
        return NULL;
    PyObject *result = PyObject_Vectorcall(slow, args, (size_t)count, keywords);
    Py_DECREF(slow);
    return result;
}

PyObject *flk_callables_tell(const flk_misuse *misuse, PyObject *pointer) {
    return PyObject_CallFunction(flk_callables.told, "y#O", misuse,
                                 (Py_ssize_t)sizeof *misuse, pointer);
}

// --- the module ---------------------------------------------------------
static PyMethodDef callables_functions[] = {
    {"set_up", set_up, METH_VARARGS, NULL},
    {"set_process_top", set_process_top, METH_O, NULL},
    {"current_number", current_number, METH_NOARGS, NULL},
    {"current_scope", current_scope, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static int add_fast(PyObject *module) {
    PyObject *fast = PyModule_New("ffi_leak_tracker._core.fast");
    if (!fast)
        return -1;
    int status = PyModule_AddFunctions(fast, callables_functions);
    if (status == 0)
        status = flk_scopes_add(fast);
    if (status == 0)
        status = flk_allocator_add(fast);
    if (status == 0)
        status = PyObject_SetAttrString(module, "fast", fast);
    Py_DECREF(fast);
    return status;
}

int flk_callables_install(void *module) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = add_fast(module);
    if (status < 0)
        PyErr_WriteUnraisable(module);
    PyGILState_Release(gil);
    return status == 0;
}
#else
int flk_callables_install(void *module) { return (void)module, 0; }
#endif
