// scopes.c - the base class of Scope in C.                               SPDX-License-Identifier: MIT
// Its twin in Python, for other interpreters, is ffi_leak_tracker/_seam/plain_scope.py: the same members and rules.
// Invariant: a scope that was entered counts once in the open scopes until it ends, also if it is never left.
#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
#include <structmember.h>

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"
#include "paths/pycontext.h"
#include "paths/pyframe.h"
#include "registry/account.h"
#include "registry/nesting.h"
#include "registry/scope.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/guard.h"

typedef struct scope {
    PyObject_HEAD PyObject *name;  // str or None
    PyObject *parent;              // the Scope it was opened in, or None
    PyObject *previous;            // the variable's value before, or None
    PyObject *own_filter;          // LeakFilter or None
    uint32_t number;
    uint32_t holder;  // at the gate, while it is open
    char is_entered, is_ended, is_isolated, is_process, verifies, collects;
    uint64_t opened_ns, ended_ns;
} scope;

static PyTypeObject *scope_type;

static bool is_scope(PyObject *object) {
    FLK_ASSERT(object && scope_type);
    return PyObject_TypeCheck(object, scope_type);
}

// --- the current scope -------------------------------------------------
// The scope or its nearest ancestor that has not ended; NULL: none. Takes and
// returns a borrowed reference.
static scope *live(PyObject *object) {
    while (object && is_scope(object) && ((scope *)object)->is_ended)
        object = ((scope *)object)->parent;
    return object && is_scope(object) ? (scope *)object : NULL;
}

PyObject *flk_scopes_current(void) {
    FLK_ASSERT(flk_callables.variable);
    PyObject *value = NULL;
    if (PyContextVar_Get(flk_callables.variable, NULL, &value) < 0 || !value)
        return NULL;
    PyObject *found = (PyObject *)live(value);
    Py_XINCREF(found);
    Py_DECREF(value);
    return found;
}

// The scope of the current context, as Python says; FLK_SCOPE_NONE: none.
// FLK_SCOPE_PROCESS: it has one that ended, and so did all around it.
static uint32_t number_in_context(void) {
    FLK_ASSERT(flk_callables.variable);
    PyObject *value = NULL;
    if (PyContextVar_Get(flk_callables.variable, NULL, &value) < 0) {
        PyErr_Clear();
        return FLK_SCOPE_NONE;
    }
    uint32_t number = FLK_SCOPE_NONE;
    if (value && value != Py_None) {
        const scope *found = live(value);
        number = found ? found->number : FLK_SCOPE_PROCESS;
    }
    Py_XDECREF(value);
    return number;
}

static bool are_contexts_read;  // with the GIL

uint32_t flk_scopes_open(void) {
    if (FLK_UNLIKELY(!are_contexts_read)) {
        uint32_t number = number_in_context();
        return number == FLK_SCOPE_NONE      ? flk_context_without_scope()
               : number == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE
                                             : number;
    }
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return FLK_SCOPE_NONE;
    uint32_t number = flk_context_scope(thread, true);
    flk_thread_leave(thread);
    return number;
}

const char *flk_scopes_read_contexts(void) {
    FLK_ASSERT(flk_callables.variable);
    const char *problem =
        flk_pycontext_install(flk_callables.variable, offsetof(scope, number));
    are_contexts_read = problem == NULL;
    return problem;
}

// --- life --------------------------------------------------------------
static PyObject *scope_new(PyTypeObject *type, PyObject *args,
                           PyObject *kwargs) {
    (void)args;
    (void)kwargs;
    scope *self = (scope *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->name = Py_NewRef(Py_None);
    self->parent = Py_NewRef(Py_None);
    self->previous = Py_NewRef(Py_None);
    self->own_filter = Py_NewRef(Py_None);
    self->collects = 1;
    return (PyObject *)self;
}

static int where_of(PyObject *where, char *is_process) {
    FLK_ASSERT(is_process);
    if (!where)
        return 0;
    *is_process = PyUnicode_Check(where) &&
                  PyUnicode_CompareWithASCIIString(where, "process") == 0;
    if (*is_process ||
        (PyUnicode_Check(where) &&
         PyUnicode_CompareWithASCIIString(where, "context") == 0))
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "where must be 'context' or 'process', not %R", where);
    return -1;
}

static int scope_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    scope *self = (scope *)object;
    static char *names[] = {"name",   "where", "isolated", "filter",
                            "verify", "gc",    NULL};
    PyObject *name = Py_None, *where = NULL, *filter = Py_None;
    int isolated = 0, verifies = 0, collects = 1;
    if (PyTuple_GET_SIZE(args) == 0 && !kwargs)
        return 0;  // the values of tp_new
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$OpOpp:Scope", names,
                                     &name, &where, &isolated, &filter,
                                     &verifies, &collects) ||
        where_of(where, &self->is_process) < 0)
        return -1;
    if (name != Py_None && !PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "a scope's name is a str, not %.100s",
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    self->is_isolated = (char)isolated;
    self->verifies = (char)verifies;
    self->collects = (char)collects;
    Py_SETREF(self->name, Py_NewRef(name));
    if (filter == Py_None)
        return 0;
    PyObject *made = PyObject_CallMethod(object, "_filter_of", "(O)", filter);
    if (!made)
        return -1;
    Py_SETREF(self->own_filter, made);
    return 0;
}

static int scope_traverse(PyObject *object, visitproc visit, void *arg) {
    scope *self = (scope *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->name);
    Py_VISIT(self->parent);
    Py_VISIT(self->previous);
    Py_VISIT(self->own_filter);
    return 0;
}

static int scope_clear(PyObject *object) {
    scope *self = (scope *)object;
    Py_CLEAR(self->previous);
    Py_CLEAR(self->own_filter);
    return 0;
}

// At the limit of scopes a scope has the number of its parent.
static bool has_own_number(const scope *self) {
    FLK_ASSERT(self->is_entered);
    uint32_t above = is_scope(self->parent) ? ((scope *)self->parent)->number
                                            : FLK_SCOPE_PROCESS;
    return self->number != above;
}

static uint32_t own_number_of(const scope *self) {
    return has_own_number(self) ? self->number : FLK_SCOPE_NONE;
}

// Ends the scope, except that the context is unchanged.
static void end_only(scope *self) {
    FLK_ASSERT(self->is_entered && !self->is_ended);
    self->is_ended = 1;
    flk_scope_end(self->number);
    self->ended_ns = flk_platform_clock_coarse();
    if (!self->is_process)
        flk_context_close(own_number_of(self));
    else if (has_own_number(self))
        flk_nesting_end(self->number);
    flk_gate_scope_end(self->holder);
}

// The number may be reused once no live block carries it. A scope that was
// never left ends here.
static void scope_dealloc(PyObject *object) {
    scope *self = (scope *)object;
    PyObject_GC_UnTrack(object);
    if (self->is_entered) {
        if (!self->is_ended)
            end_only(self);
        if (has_own_number(self))
            flk_account_drop_scope(self->number);
    }
    scope_clear(object);
    Py_CLEAR(self->name);
    Py_CLEAR(self->parent);
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// --- enter and exit ----------------------------------------------------
// Enters the name of the scope under its number, or removes the name of an
// earlier scope with that number.
static int name_number(const scope *self) {
    FLK_ASSERT(self->is_entered && flk_callables.names);
    if (self->name == Py_None && PyDict_GET_SIZE(flk_callables.names) == 0)
        return 0;
    PyObject *key = PyLong_FromUnsignedLong(self->number);
    if (!key)
        return -1;
    int status = 0;
    if (self->name != Py_None)
        status = PyDict_SetItem(flk_callables.names, key, self->name);
    else if ((status = PyDict_Contains(flk_callables.names, key)) > 0)
        status = PyDict_DelItem(flk_callables.names, key);
    Py_DECREF(key);
    return status;
}

static int open_below(scope *self, PyObject *parent) {
    FLK_ASSERT(!self->is_entered);
    uint32_t above =
        is_scope(parent) ? ((scope *)parent)->number : FLK_SCOPE_PROCESS;
    Py_SETREF(self->parent, Py_NewRef(parent));
    self->number = flk_scope_new(above, self->is_isolated);
    self->is_entered = 1;
    self->opened_ns = flk_platform_clock_coarse();
    self->holder = flk_gate_scope_begin(self->is_process);
    return name_number(self);
}

static int set_variable(PyObject *value) {
    FLK_ASSERT(value && flk_callables.variable);
    PyObject *token = PyContextVar_Set(flk_callables.variable, value);
    Py_XDECREF(token);
    return token ? 0 : -1;
}

static int enter_context(scope *self) {
    FLK_ASSERT(!self->is_entered && !self->is_process);
    PyObject *before = NULL;
    if (PyContextVar_Get(flk_callables.variable, NULL, &before) < 0)
        return -1;
    // The end restores the previous scope only if it is open, since a chain
    // of ended scopes would grow without limit. A process scope is never
    // stored in the variable.
    scope *around = live(before);
    PyObject *back =
        around && !around->is_process ? (PyObject *)around : Py_None;
    Py_SETREF(self->previous, Py_NewRef(back));
    PyObject *parent = around ? (PyObject *)around : flk_callables.process_top;
    int status = open_below(self, parent);
    Py_XDECREF(before);
    if (status < 0)
        return -1;
    flk_context_count(+1);
    if (set_variable((PyObject *)self) < 0) {
        flk_context_count(-1);
        return -1;
    }
    uint32_t outer = back == Py_None ? FLK_SCOPE_NONE : ((scope *)back)->number;
    flk_context_open(own_number_of(self), outer, true);
    flk_context_set(self->number, true);
    return 0;
}

static PyObject *scope_enter(PyObject *object, PyObject *unused) {
    FLK_ASSERT(is_scope(object));
    scope *self = (scope *)object;
    (void)unused;
    if (self->is_entered) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a scope is entered once: make another one with "
                        "LeakTracker.scope()");
        return NULL;
    }
    if (self->is_process)
        return PyObject_CallMethod(object, "_enter_process", NULL);
    return enter_context(self) < 0 ? NULL : Py_NewRef(object);
}

// The variable is restored only if it holds this scope: another task or thread
// may leave it.
static int leave_context(scope *self) {
    FLK_ASSERT(self->is_ended && !self->is_process);
    PyObject *now = NULL;
    if (PyContextVar_Get(flk_callables.variable, NULL, &now) < 0)
        return -1;
    int status = now == (PyObject *)self ? set_variable(self->previous) : 0;
    Py_XDECREF(now);
    Py_SETREF(self->previous, Py_NewRef(Py_None));
    flk_context_set(number_in_context(), true);
    return status;
}

static PyObject *scope_end(PyObject *object, PyObject *unused) {
    FLK_ASSERT(is_scope(object));
    scope *self = (scope *)object;
    (void)unused;
    if (self->is_ended || !self->is_entered)
        Py_RETURN_NONE;
    end_only(self);
    if (self->is_process)
        return PyObject_CallMethod(object, "_leave_process", NULL);
    if (leave_context(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

// --- verification ------------------------------------------------------
// Python checks more than the counts: blocks of an attachment that ended, and
// names of libraries that match nothing.
static atomic_bool judges_in_python;

static PyObject *judge_in_python(PyObject *module, PyObject *is_needed) {
    (void)module;
    int needed = PyObject_IsTrue(is_needed);
    if (needed < 0)
        return NULL;
    atomic_store(&judges_in_python, needed != 0);
    Py_RETURN_NONE;
}

// Functions that verified a scope while no library was watched.
enum { PLACES = 256 };
static atomic_uintptr_t places[PLACES];

// Whether the code leaves scopes for its callers: a decorator, __aexit__, or
// contextlib. Python then looks for the caller.
static bool is_between(const void *code) {
    FLK_ASSERT(code != NULL && PyGILState_Check());
    const char *name =
        PyUnicode_AsUTF8(((const PyCodeObject *)code)->co_filename);
    if (!name)
        PyErr_Clear();
    return !name || strstr(name, "ffi_leak_tracker") ||
           strstr(name, "contextlib");
}

// Whether the scope recorded nothing, since perhaps nothing was watched. Each
// function is asked once, for its first scope: a later one that has nothing to
// record is not worth a warning. Two functions that share a place may be asked
// again.
static bool may_be_blind(const scope *self) {
    FLK_ASSERT(self->is_entered);
    if (flk_gate_is_attached())
        return false;
    flk_raw_frame frame = {0};
    bool is_known = flk_pyframe_innermost(&frame);
    uintptr_t function = is_known ? (uintptr_t)frame.code : 1;
    atomic_uintptr_t *place = &places[flk_hash_mix(function) % PLACES];
    if (atomic_load_explicit(place, memory_order_relaxed) == function)
        return false;
    if (!is_known || !is_between(frame.code))
        atomic_store_explicit(place, function, memory_order_relaxed);
    flk_sum sum;
    flk_account_scope(self->number, &sum);
    return sum.alloc_count == 0;
}

// True: no block is live, and no damage can exist, without a search.
static bool is_clean(const scope *self) {
    FLK_ASSERT(self->is_entered);
    return !may_be_blind(self) && !flk_guard_is_used() &&
           !atomic_load(&judges_in_python) && flk_gate_pauses() == 0 &&
           flk_account_scope_is_empty(self->number) &&
           (!flk_nesting_is_doubted() ||
            flk_nesting_doubted(self->number) == 0);
}

static PyObject *scope_exit(PyObject *object, PyObject *const *args,
                            Py_ssize_t count) {
    FLK_ASSERT(is_scope(object));
    scope *self = (scope *)object;
    PyObject *error = count > 1 ? args[1] : Py_None;
    PyObject *ended = scope_end(object, NULL);
    if (!ended || !self->verifies || !self->is_entered || is_clean(self))
        return ended;
    Py_DECREF(ended);
    return PyObject_CallMethod(object, "_judge", "(O)", error);
}

static PyObject *scope_verify(PyObject *object, PyObject *const *args,
                              Py_ssize_t count, PyObject *keywords) {
    scope *self = (scope *)object;
    if (self->is_entered && count == 0 && !keywords && is_clean(self))
        Py_RETURN_NONE;
    PyObject *verify = PyObject_GetAttrString(object, "_verify");
    if (!verify)
        return NULL;
    PyObject *result =
        PyObject_Vectorcall(verify, args, (size_t)count, keywords);
    Py_DECREF(verify);
    return result;
}

// For _enter_process: opens the scope below `parent`; the context stays.
static PyObject *scope_open(PyObject *object, PyObject *parent) {
    FLK_ASSERT(is_scope(object));
    scope *self = (scope *)object;
    if (open_below(self, parent) < 0)
        return NULL;
    if (has_own_number(self))
        flk_nesting_open_root(self->number);
    Py_RETURN_NONE;
}

// --- members ----------------------------------------------------------------
static PyObject *get_number(PyObject *object, void *unused) {
    FLK_ASSERT(is_scope(object));
    scope *self = (scope *)object;
    (void)unused;
    if (self->is_entered)
        return PyLong_FromUnsignedLong(self->number);
    PyErr_SetString(PyExc_RuntimeError,
                    "this scope was not entered yet: use it in a with "
                    "statement");
    return NULL;
}

static PyObject *get_duration(PyObject *object, void *unused) {
    scope *self = (scope *)object;
    (void)unused;
    if (!self->is_entered)
        Py_RETURN_NONE;
    uint64_t end =
        self->is_ended ? self->ended_ns : flk_platform_clock_coarse();
    return PyFloat_FromDouble((double)(end - self->opened_ns) / 1e9);
}

static PyObject *get_where(PyObject *object, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((scope *)object)->is_process ? "process"
                                                              : "context");
}

static PyGetSetDef computed[] = {
    {"number", get_number, NULL, "Its number in the core.", NULL},
    {"duration", get_duration, NULL,
     "Seconds from its start to its end, or to now; None before.", NULL},
    {"where", get_where, NULL, "\"context\" or \"process\".", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

PyDoc_STRVAR(scope_doc, "ScopeBase(name=None, *, where='context', isolated="
                        "False, filter=None, verify=False, gc=True)\n--\n\n"
                        "Entering and leaving a scope, and its state.");

PyDoc_STRVAR(
    verify_doc,
    "verify_no_leaks($self, /, *, filter=None, gc=True)\n--\n\n"
    "Do nothing if no block of the scope is live.\n"
    "\n"
    "Args:\n"
    "    filter: blocks to leave out, besides the filters of the scope.\n"
    "    gc: collect garbage (at most twice) if live blocks are owned by "
    "Python\n"
    "        objects; False judges at once.\n"
    "\n"
    "Raises: LeaksFoundError with the blocks; CorruptionError if guard bytes "
    "or\n"
    "    freed blocks were written to (``guard=``, ``poison=``).");

static PyMemberDef scope_members[] = {
    {"name", T_OBJECT, offsetof(scope, name), READONLY,
     "The name in reports, or None."},
    {"parent", T_OBJECT, offsetof(scope, parent), READONLY,
     "The scope it was opened in, or None."},
    {"ended", T_BOOL, offsetof(scope, is_ended), READONLY,
     "Whether it was left."},
    {"entered", T_BOOL, offsetof(scope, is_entered), READONLY,
     "Whether it was entered."},
    {"isolated", T_BOOL, offsetof(scope, is_isolated), READONLY,
     "Whether its blocks are hidden from the reports of its parents."},
    {"_own_filter", T_OBJECT, offsetof(scope, own_filter), READONLY, NULL},
    {"_verifies", T_BOOL, offsetof(scope, verifies), READONLY, NULL},
    {"_collects", T_BOOL, offsetof(scope, collects), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef scope_methods[] = {
    {"__enter__", scope_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))scope_exit, METH_FASTCALL, NULL},
    {"verify_no_leaks", (PyCFunction)(void (*)(void))scope_verify,
     METH_FASTCALL | METH_KEYWORDS, verify_doc},
    {"_end", scope_end, METH_NOARGS, NULL},
    {"_open", scope_open, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, (void *)scope_doc},   {Py_tp_new, scope_new},
    {Py_tp_init, scope_init},         {Py_tp_dealloc, scope_dealloc},
    {Py_tp_traverse, scope_traverse}, {Py_tp_clear, scope_clear},
    {Py_tp_methods, scope_methods},   {Py_tp_members, scope_members},
    {Py_tp_getset, computed},         {0, NULL}};

static PyType_Spec scope_spec = {
    .name = "ffi_leak_tracker._core.callables.ScopeBase",
    .basicsize = sizeof(scope),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = scope_slots};

static PyMethodDef scope_functions[] = {
    {"judge_in_python", judge_in_python, METH_O, NULL}, {NULL, NULL, 0, NULL}};

int flk_scopes_add(PyObject *module) {
    FLK_ASSERT(module);
    if (PyModule_AddFunctions(module, scope_functions) < 0)
        return -1;
    scope_type = (PyTypeObject *)PyType_FromSpec(&scope_spec);
    return scope_type ? PyModule_AddObjectRef(module, "ScopeBase",
                                              (PyObject *)scope_type)
                      : -1;
}
#endif
