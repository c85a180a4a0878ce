// observers.c - calls Python code when something waits to be told.     SPDX-License-Identifier: MIT
// Contract: tracker/observe.h and python/objects.h.
#include "python/objects.h"

#ifndef PYPY_VERSION
#include <errno.h>

#include "base/platform.h"
#include "tracker/observe.h"

static PyObject *deliver;   // callable(): takes what waits, and tells it
static PyObject *tell;      // callable(bytes of a flk_observed): after that
static atomic_bool is_due;  // a pending call is on its way

// Amid deallocations an exception may be set, which is not ours.
static void call(PyObject *callable, const flk_observed *event) {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *raised = PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
#endif
    PyObject *result = event ? PyObject_CallFunction(callable, "y#", event,
                                                     (Py_ssize_t)sizeof *event)
                             : PyObject_CallNoArgs(callable);
    if (!result)
        PyErr_WriteUnraisable(callable);
    Py_XDECREF(result);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(raised);
#else
    PyErr_Restore(type, value, traceback);
#endif
}

static void tell_now(const flk_observed *event) {
    call(event ? tell : deliver, event);
}

static int pending(void *unused) {
    (void)unused;
    atomic_store(&is_due, false);
    call(deliver, NULL);
    return 0;
}

// Its table may be full: the next event tries again.
void flk_observers_tell_soon(void) {
    if (!deliver || atomic_load_explicit(&is_due, memory_order_relaxed) ||
        atomic_exchange(&is_due, true))
        return;
    int saved = errno;
    if (Py_AddPendingCall(pending, NULL) < 0)
        atomic_store(&is_due, false);
    errno = saved;
}

static PyObject *set_deliver(PyObject *self, PyObject *args) {
    PyObject *for_all, *for_one;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &for_all, &for_one))
        return NULL;
    Py_INCREF(for_all);
    Py_INCREF(for_one);
    Py_XSETREF(deliver, for_all);
    Py_XSETREF(tell, for_one);
    flk_observe_set_tellers(tell_now, flk_observers_tell_soon);
    Py_RETURN_NONE;
}

// sys.unraisablehook is told of an exception that a callable raised.
static PyObject *unraisable(PyObject *self, PyObject *args) {
    PyObject *error, *callable;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &error, &callable))
        return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    PyErr_WriteUnraisable(callable);
    Py_RETURN_NONE;
}

static PyMethodDef observer_functions[] = {
    {"set_deliver", set_deliver, METH_VARARGS, NULL},
    {"unraisable", unraisable, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

int flk_observers_add(PyObject *module) {
    return PyModule_AddFunctions(module, observer_functions);
}
#endif
