// callables.c - installs the callables in the module. Contract: python/callables.h.  SPDX-License-Identifier: MIT
#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
#include "python/allocator.h"
#include "python/cdata.h"
#include "python/owners.h"
#include "python/wrappers.h"
#include "tracker/tracker.h"

flk_callables_context flk_callables;

// --- the objects they use ----------------------------------------------
static void keep(PyObject **field, PyObject *object) {
    FLK_ASSERT(object);
    Py_INCREF(object);
    Py_XSETREF(*field, object);
}

static PyObject *set_up(PyObject *self, PyObject *args) {
    FLK_ASSERT(PyGILState_Check());
    PyObject *variable, *names, *report, *note_thread, *void_pointer, *type_of;
    PyObject *own;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO!OOOOO", &variable, &PyDict_Type, &names,
                          &report, &note_thread, &void_pointer, &type_of, &own))
        return NULL;
    keep(&flk_callables.variable, variable);
    keep(&flk_callables.names, names);
    keep(&flk_callables.report_misuse, report);
    keep(&flk_callables.note_thread, note_thread);
    keep(&flk_callables.void_pointer, void_pointer);
    keep(&flk_callables.type_of, type_of);
    keep(&flk_callables.own, own);
    keep(&flk_callables.process_top, Py_None);
    if (flk_cdata_probe(void_pointer) < 0)
        return NULL;
    return Py_BuildValue("z", flk_scopes_read_contexts());
}

static PyObject *set_process_top(PyObject *self, PyObject *scope) {
    FLK_ASSERT(scope);
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
    FLK_ASSERT(flk_callables.process_top);
    (void)self;
    (void)unused;
    PyObject *scope = flk_scopes_current();
    if (scope)
        return scope;
    return PyErr_Occurred() ? NULL : Py_NewRef(flk_callables.process_top);
}

// --- calls of Python code ----------------------------------------------
void flk_callables_note_thread(void) {
    FLK_ASSERT(flk_callables.note_thread && PyGILState_Check());
    PyObject *result = PyObject_CallNoArgs(flk_callables.note_thread);
    if (!result)
        PyErr_Clear();
    Py_XDECREF(result);
    flk_thread *thread = flk_platform_thread_pointer();
    if (thread)
        thread->is_noted = true;
}

PyObject *flk_callables_fall_back(PyObject *self, const char *method,
                                  PyObject *const *args, Py_ssize_t count,
                                  PyObject *keywords) {
    FLK_ASSERT(count >= 0 && !PyErr_Occurred());
    PyObject *bound = PyObject_GetAttrString(self, method);
    if (!bound)
        return NULL;
    PyObject *result =
        PyObject_Vectorcall(bound, args, (size_t)count, keywords);
    Py_DECREF(bound);
    return result;
}

PyObject *flk_callables_report(const flk_misuse *misuse, PyObject *pointer) {
    FLK_ASSERT(flk_callables.report_misuse && misuse->verdict);
    return PyObject_CallFunction(flk_callables.report_misuse, "y#O", misuse,
                                 (Py_ssize_t)sizeof *misuse, pointer);
}

// --- the module ---------------------------------------------------------
static PyMethodDef callables_functions[] = {
    {"set_up", set_up, METH_VARARGS, NULL},
    {"set_process_top", set_process_top, METH_O, NULL},
    {"current_number", current_number, METH_NOARGS, NULL},
    {"current_scope", current_scope, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

// Made here, because the module of context variables takes time to load.
static int add_variable(PyObject *made) {
    FLK_ASSERT(made);
    PyObject *variable = PyContextVar_New("ffi_leak_tracker_scope", Py_None);
    if (!variable)
        return -1;
    int status = PyObject_SetAttrString(made, "variable", variable);
    Py_DECREF(variable);
    return status;
}

static int add_callables(PyObject *module) {
    FLK_ASSERT(module);
    PyObject *made = PyModule_New("ffi_leak_tracker._core.callables");
    if (!made)
        return -1;
    int status = PyModule_AddFunctions(made, callables_functions);
    if (status == 0)
        status = add_variable(made);
    if (status == 0)
        status = flk_scopes_add(made);
    if (status == 0)
        status = flk_allocator_add(made);
    if (status == 0)
        status = flk_wrappers_add(made) < 0 ? -1 : flk_owners_add(made);
    if (status == 0)
        status = PyObject_SetAttrString(module, "callables", made);
    Py_DECREF(made);
    return status;
}

int flk_callables_install(void *module) {
    FLK_ASSERT(module);
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = add_callables(module);
    if (status < 0)
        PyErr_WriteUnraisable(module);
    PyGILState_Release(gil);
    return status == 0;
}
// --- the interpreter ---------------------------------------------------
// The core has one state for the process, with references to objects of one
// interpreter. A mark in the dictionary of that interpreter tells it from a
// main interpreter that was initialized again later.
static PyObject *claim(PyObject *self, PyObject *unused) {
    static bool is_claimed;  // with the GIL
    (void)self, (void)unused;
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    if (interpreter != PyInterpreterState_Main())
        return PyUnicode_FromString("subinterpreter");
    PyObject *own = PyInterpreterState_GetDict(interpreter);
    if (!own)
        return PyErr_NoMemory();
    bool is_marked = PyDict_GetItemString(own, "ffi_leak_tracker") != NULL;
    if (is_claimed && !is_marked)
        return PyUnicode_FromString("finalized");
    if (PyDict_SetItemString(own, "ffi_leak_tracker", Py_None) < 0)
        return NULL;
    is_claimed = true;
    Py_RETURN_NONE;
}

// A function called through cffi runs without the GIL, and PyGILState_Ensure
// would switch to the main interpreter. So the check is a function of Python.
static PyMethodDef claim_functions[] = {{"claim", claim, METH_NOARGS, NULL},
                                        {NULL, NULL, 0, NULL}};

int flk_callables_add_claim(void *module) {
    FLK_ASSERT(module);
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = PyModule_AddFunctions(module, claim_functions);
    if (status < 0)
        PyErr_WriteUnraisable(module);
    // Hooks need it also where the callables are switched off.
    flk_memory_install();
    PyGILState_Release(gil);
    return status == 0;
}
#else
int flk_callables_add_claim(void *module) { return (void)module, 0; }
int flk_callables_install(void *module) { return (void)module, 0; }
#endif
