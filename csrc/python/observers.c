// observers.c - calls Python code that delivers events.                  SPDX-License-Identifier: MIT
// Contract: tracker/observe.h and python/objects.h. Events wait in queues. A pending call of the interpreter lets Python
// deliver them in the main thread.
// Invariant: deliveries by pending calls take at most about half of the main thread's time. Each delivery is bounded
// (ffi_leak_tracker/_seam/core_objects.py), and the next one begins no earlier than after the time the last one took.
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include <errno.h>

#include "base/platform.h"
#include "tracker/observe.h"

static PyObject *deliver;     // callable(): delivers; True: events still wait
static PyObject *tell;        // callable(flk_observed as bytes): True: done
static atomic_bool is_due;    // a pending call is in the interpreter's queue
static uint64_t earliest_ns;  // of the next delivery; main thread only

// Calls with an event or without arguments; returns whether the result is
// true. An exception that was set before, by the code that deletes an object
// for example, is set again afterwards.
static bool call(PyObject *callable, const flk_observed *event) {
    FLK_ASSERT(callable && PyGILState_Check());
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
    bool is_true = result == Py_True;
    Py_XDECREF(result);
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(raised);
#else
    PyErr_Restore(type, value, traceback);
#endif
    return is_true;
}

// Without an event: delivers what waits. At exit nothing is delivered any more.
static void tell_now(const flk_observed *event) {
    PyObject *callable = event ? tell : deliver;
    if (callable)
        call(callable, event);
}

static int pending(void *unused);

static void add_pending(void) {
    FLK_ASSERT(atomic_load(&is_due));
    // A full table of pending calls is no error: the next event tries again.
    if (Py_AddPendingCall(pending, NULL) < 0)
        atomic_store(&is_due, false);
}

static int pending(void *unused) {
    uint64_t start = flk_platform_clock_coarse();
    (void)unused;
    if (start < earliest_ns) {
        atomic_store(&is_due, true);  // not set in the child of a fork
        add_pending();
        return 0;
    }
    atomic_store(&is_due, false);
    if (!deliver)
        return 0;
    bool still_wait = call(deliver, NULL);
    uint64_t end = flk_platform_clock_coarse();
    earliest_ns = end + (end - start);
    if (still_wait)
        flk_observers_schedule();
    return 0;
}

void flk_observers_schedule(void) {
    if (!deliver || atomic_load_explicit(&is_due, memory_order_relaxed) ||
        atomic_exchange(&is_due, true))
        return;
    int saved = errno;
    add_pending();
    errno = saved;
}

// --- for Python --------------------------------------------------------
static PyObject *set_deliver(PyObject *self, PyObject *args) {
    PyObject *for_all, *for_one;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &for_all, &for_one))
        return NULL;
    FLK_ASSERT(PyCallable_Check(for_all) && PyCallable_Check(for_one));
    Py_INCREF(for_all);
    Py_INCREF(for_one);
    Py_XSETREF(deliver, for_all);
    Py_XSETREF(tell, for_one);
    flk_observe_set_tellers(tell_now, flk_observers_schedule);
    Py_RETURN_NONE;
}

static PyObject *schedule(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    flk_observers_schedule();
    Py_RETURN_NONE;
}

// At exit: events of C threads must not reach the interpreter any more.
static PyObject *close_delivery(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    flk_observe_set_tellers(NULL, NULL);
    Py_CLEAR(deliver);
    Py_CLEAR(tell);
    Py_RETURN_NONE;
}

// In the child of a fork: the thread with the pending call may be gone.
static PyObject *after_fork(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    atomic_store(&is_due, false);
    earliest_ns = 0;
    flk_observers_schedule();
    Py_RETURN_NONE;
}

// Passes an exception that a callable raised to sys.unraisablehook.
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
    {"schedule", schedule, METH_NOARGS, NULL},
    {"close_delivery", close_delivery, METH_NOARGS, NULL},
    {"after_fork", after_fork, METH_NOARGS, NULL},
    {"unraisable", unraisable, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

int flk_observers_add(PyObject *module) {
    FLK_ASSERT(module);
    return PyModule_AddFunctions(module, observer_functions);
}
#endif
