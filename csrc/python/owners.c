// owners.c - methods of an ffi that record. Contract: python/owners.h.     SPDX-License-Identifier: MIT
#include "python/owners.h"

#ifndef FLK_PLAIN_PYTHON
#include <structmember.h>

#include "base/platform.h"
#include "python/allocator.h"
#include "python/cdata.h"
#include "python/wrappers.h"
#include "tracker/observe.h"

// What a method makes: a cdata with memory that lives as long as it does, memory
// that is freed by a function, or a cdata with a destructor.
typedef enum method_kind { METHOD_OWNS, METHOD_MAKES, METHOD_GC } method_kind;

typedef struct method {
    PyObject_HEAD vectorcallfunc vectorcall;
    PyObject *raw;    // the method of cffi
    PyObject *slow;   // callable: the same with all that it may have to do
    PyObject *learn;  // callable(cdata): (sort, type, size, bool, bool); of
                      // METHOD_GC: callable(cdata, destructor, size)
    PyObject *known;  // dict: ctype -> what was learned; of METHOD_GC: wrapper
                      // -> destructor
    PyObject *weak_references;
    char kind;
    char is_making;  // it records while tracking is on
} method;

// Of one interpreter: the core is used by one.
static struct {
    PyObject *references;      // dict: key -> reference
    PyObject *reference_type;  // a subclass of weakref.ref
    PyObject *died;            // callable(reference)
    PyObject *zero;
    Py_ssize_t key_offset;  // of the key in a reference
} owners;

// --- the life of a cdata -----------------------------------------------------
static PyObject **key_in(PyObject *reference) {
    FLK_ASSERT(owners.key_offset > 0);
    return (PyObject **)(void *)((char *)reference + owners.key_offset);
}

// The callback of each reference.
static PyObject *cdata_died(PyObject *module, PyObject *reference) {
    (void)module;
    FLK_ASSERT(owners.references);
    PyObject *key = *key_in(reference);
    if (key && PyDict_GetItemWithError(owners.references, key) == reference) {
        Py_INCREF(key);
        if (PyDict_DelItem(owners.references, key) == 0)
            flk_wrappers_forget(key);
        Py_DECREF(key);
    }
    PyErr_Clear();
    Py_RETURN_NONE;
}

// Lets the death of `owner` remove the record of the key.
static bool watch_owner(PyObject *owner, PyObject *key) {
    FLK_ASSERT(owner && key);
    PyObject *made = PyObject_CallFunctionObjArgs(owners.reference_type, owner,
                                                  owners.died, NULL);
    if (!made)
        return false;
    *key_in(made) = Py_NewRef(key);
    bool is_good = PyDict_SetItem(owners.references, key, made) == 0;
    Py_DECREF(made);
    return is_good;
}

static void reference_dealloc(PyObject *reference) {
    PyTypeObject *type = Py_TYPE(reference);
    PyObject_GC_UnTrack(reference);
    Py_CLEAR(*key_in(reference));
    PyObject_GC_Track(reference);
    _PyWeakref_RefType.tp_dealloc(reference);
    Py_DECREF(type);
}

// --- records -------------------------------------------------------------
// What is known of cdata of this type: a new reference; NULL with an exception.
static PyObject *known_of(const method *self, PyObject *made) {
    PyObject *ctype = ((const flk_cdata *)(const void *)made)->ctype;
    FLK_ASSERT(flk_cdata_known.type && self->known);
    PyObject *found = PyDict_GetItemWithError(self->known, ctype);
    if (FLK_LIKELY(found != NULL) || PyErr_Occurred())
        return Py_XNewRef(found);
    found = PyObject_CallOneArg(self->learn, made);
    if (found && PyDict_SetItem(self->known, ctype, found) < 0)
        Py_CLEAR(found);
    return found;
}

static bool record_new(const method *self, PyObject *made) {
    PyObject *sort, *owner = NULL;
    int type, is_structure, is_open;
    Py_ssize_t size;
    void *address;
    FLK_ASSERT(made);
    PyObject *known = known_of(self, made);
    if (!known)
        return false;
    bool is_good = PyArg_ParseTuple(known, "Oinpp", &sort, &type, &size,
                                    &is_structure, &is_open) &&
                   flk_cdata_address(made, &address);
    if (is_good && is_open)
        size *= PyObject_Size(made);
    if (is_good && size < 0)
        is_good = false;
    if (is_good && self->kind == METHOD_OWNS)
        owner = is_structure ? PyObject_GetItem(made, owners.zero)
                             : Py_NewRef(made);
    PyObject *key =
        is_good && address
            ? flk_wrappers_enter(address, (size_t)size, (uint16_t)type, sort)
            : NULL;
    if (key && key != Py_None && owner)
        is_good = watch_owner(owner, key);
    else if (!key && address)
        is_good = false;
    Py_XDECREF(key);
    Py_XDECREF(owner);
    Py_DECREF(known);
    return is_good && !PyErr_Occurred();
}

// --- calls -----------------------------------------------------------------
static bool is_recording(const method *self) {
    FLK_ASSERT(self->raw && self->slow);
    return self->is_making && flk_tracker_is_enabled();
}

// Whether `slow` would replace something: a wrapper, also in a container.
static bool has_wrapper(PyObject *value) {
    bool has = Py_TYPE(value) == flk_wrappers.type;
    FLK_ASSERT(value);
    if (!PyList_CheckExact(value) && !PyTuple_CheckExact(value) &&
        !PyDict_CheckExact(value))
        return has;
    if (Py_EnterRecursiveCall(" in an initializer"))
        return false;
    PyObject *items = PyDict_CheckExact(value) ? PyDict_Values(value)
                                               : PySequence_Tuple(value);
    Py_ssize_t count = items ? PySequence_Size(items) : 0;
    for (Py_ssize_t i = 0; i < count && !has; i++) {
        PyObject *item = PySequence_GetItem(items, i);
        has = item && has_wrapper(item);
        Py_XDECREF(item);
    }
    Py_XDECREF(items);
    Py_LeaveRecursiveCall();
    return has;
}

// cffi refused the arguments. Without a wrapper among them its error stays: an
// allocator of the caller is not called again.
static PyObject *or_slow(const method *self, PyObject *result,
                         PyObject *const *args, size_t flags,
                         PyObject *keywords) {
    FLK_ASSERT(result || PyErr_Occurred());
    if (FLK_LIKELY(result != NULL) || !PyErr_ExceptionMatches(PyExc_TypeError))
        return result;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (keywords)
        count += PyTuple_GET_SIZE(keywords);
    bool has = false;
    for (Py_ssize_t i = 0; i < count && !has; i++)
        has = has_wrapper(args[i]);
    PyErr_Clear();
    if (!has) {
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return PyObject_Vectorcall(self->slow, args, flags, keywords);
}

static PyObject *call_new(const method *self, PyObject *const *args,
                          size_t flags, PyObject *keywords) {
    FLK_ASSERT(self->kind != METHOD_GC);
    bool is_on = is_recording(self);
    if (is_on && (keywords || flk_observe_is_on() || !flk_cdata_known.type))
        return PyObject_Vectorcall(self->slow, args, flags, keywords);
    PyObject *made = PyObject_Vectorcall(self->raw, args, flags, keywords);
    if (!made || !is_on)
        return or_slow(self, made, args, flags, keywords);
    if (FLK_UNLIKELY(!record_new(self, made)))
        Py_CLEAR(made);
    return made;
}

static PyObject *call_gc(const method *self, PyObject *const *args,
                         size_t flags, PyObject *keywords) {
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    FLK_ASSERT(self->kind == METHOD_GC);
    PyObject *destroy = NULL;
    if (!keywords && (count == 2 || count == 3) &&
        Py_TYPE(args[1]) == flk_wrappers.type)
        destroy = PyDict_GetItemWithError(self->known, args[1]);
    Py_XINCREF(destroy);  // what is asked below may change the dictionary
    if (!destroy || !flk_wrappers_may_destroy(destroy, args[0])) {
        Py_XDECREF(destroy);
        PyErr_Clear();
        return PyObject_Vectorcall(self->slow, args, flags, keywords);
    }
    PyObject *raw_args[3] = {args[0], destroy, count == 3 ? args[2] : NULL};
    PyObject *made =
        PyObject_Vectorcall(self->raw, raw_args, (size_t)count, NULL);
    Py_DECREF(destroy);
    void *address;
    if (!made || !is_recording(self) || !flk_cdata_address(made, &address) ||
        !address || flk_wrappers_is_live(address))
        return made;
    PyObject *told = PyObject_CallFunctionObjArgs(
        self->learn, made, args[1], count == 3 ? args[2] : owners.zero, NULL);
    if (!told)
        Py_CLEAR(made);
    Py_XDECREF(told);
    return made;
}

static PyObject *method_call(PyObject *object, PyObject *const *args,
                             size_t flags, PyObject *keywords) {
    const method *self = (const method *)(const void *)object;
    return self->kind == METHOD_GC ? call_gc(self, args, flags, keywords)
                                   : call_new(self, args, flags, keywords);
}

// --- the type --------------------------------------------------------------
static PyObject *method_new(PyTypeObject *type, PyObject *args,
                            PyObject *kwargs) {
    PyObject *raw, *slow, *learn, *known;
    int kind, is_making;
    (void)kwargs;
    FLK_ASSERT(owners.references);
    if (!PyArg_ParseTuple(args, "iOOOO!p", &kind, &raw, &slow, &learn,
                          &PyDict_Type, &known, &is_making))
        return NULL;
    method *self = (method *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->vectorcall = method_call;
    self->kind = (char)kind;
    self->raw = Py_NewRef(raw);
    self->slow = Py_NewRef(slow);
    self->learn = Py_NewRef(learn);
    self->known = Py_NewRef(known);
    self->is_making = (char)is_making;
    return (PyObject *)self;
}

static int method_traverse(PyObject *object, visitproc visit, void *arg) {
    method *self = (method *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->raw);
    Py_VISIT(self->slow);
    Py_VISIT(self->learn);
    Py_VISIT(self->known);
    return 0;
}

static int method_clear(PyObject *object) {
    method *self = (method *)object;
    Py_CLEAR(self->slow);
    Py_CLEAR(self->learn);
    return 0;
}

static void method_dealloc(PyObject *object) {
    method *self = (method *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weak_references)
        PyObject_ClearWeakRefs(object);
    method_clear(object);
    Py_CLEAR(self->raw);
    Py_CLEAR(self->known);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *method_repr(PyObject *object) {
    return PyUnicode_FromFormat("<instrumented %R>", ((method *)object)->raw);
}

// What a method does not have, the method of cffi may have: its name, its text.
static PyObject *method_getattr(PyObject *object, PyObject *name) {
    FLK_ASSERT(object && name);
    PyObject *found = PyObject_GenericGetAttr(object, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return found;
    PyErr_Clear();
    return PyObject_GetAttr(((method *)object)->slow, name);
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(method, vectorcall), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(method, weak_references),
     READONLY, NULL},
    {"_ffi_leak_tracker_making", T_BOOL, offsetof(method, is_making), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot method_slots[] = {{Py_tp_new, method_new},
                                     {Py_tp_dealloc, method_dealloc},
                                     {Py_tp_traverse, method_traverse},
                                     {Py_tp_clear, method_clear},
                                     {Py_tp_call, PyVectorcall_Call},
                                     {Py_tp_repr, method_repr},
                                     {Py_tp_getattro, method_getattr},
                                     {Py_tp_members, method_members},
                                     {0, NULL}};

static PyType_Spec method_spec = {
    .name = "ffi_leak_tracker._core.callables.Method",
    .basicsize = sizeof(method),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC,
    .slots = method_slots};

static PyType_Slot reference_slots[] = {{Py_tp_dealloc, reference_dealloc},
                                        {0, NULL}};

// --- the module --------------------------------------------------------------
static PyMethodDef died_function = {"died", cdata_died, METH_O, NULL};

static PyObject *set_up_owners(PyObject *module, PyObject *references) {
    (void)module;
    if (!PyDict_Check(references))
        return PyErr_Format(PyExc_TypeError, "a dict, not %R", references);
    owners.references = Py_NewRef(references);
    Py_RETURN_NONE;
}

static PyMethodDef owner_functions[] = {
    {"set_up_owners", set_up_owners, METH_O, NULL}, {NULL, NULL, 0, NULL}};

// A class of weak references with room for a key behind their own fields.
static PyObject *make_reference_type(void) {
    owners.key_offset = _PyWeakref_RefType.tp_basicsize;
    PyType_Spec spec = {
        .name = "ffi_leak_tracker._core.callables.OwnerReference",
        .basicsize = (int)(owners.key_offset + (Py_ssize_t)sizeof(PyObject *)),
        .flags = Py_TPFLAGS_DEFAULT,  // and the collector's, from its base
        .slots = reference_slots};
    FLK_ASSERT(owners.key_offset > 0);
    return PyType_FromSpecWithBases(&spec, (PyObject *)&_PyWeakref_RefType);
}

int flk_owners_add(PyObject *module) {
    FLK_ASSERT(module);
    PyObject *type = PyType_FromSpec(&method_spec);
    int status = type ? PyModule_AddObjectRef(module, "Method", type) : -1;
    Py_XDECREF(type);
    owners.zero = PyLong_FromLong(0);
    owners.died = PyCFunction_New(&died_function, NULL);
    owners.reference_type = make_reference_type();
    if (!owners.zero || !owners.died || !owners.reference_type)
        status = -1;
    return status < 0 ? -1 : PyModule_AddFunctions(module, owner_functions);
}
#endif
