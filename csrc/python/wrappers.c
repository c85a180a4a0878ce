// wrappers.c - the type of wrapped functions. Contract: python/wrappers.h. SPDX-License-Identifier: MIT
#include "python/wrappers.h"

#ifndef FLK_PLAIN_PYTHON
#include <structmember.h>

#include "base/platform.h"
#include "python/allocator.h"
#include "python/cdata.h"
#include "tracker/observe.h"
#include "tracker/tracker.h"

flk_wrappers_context flk_wrappers;

// What a wrapper does when something must be done.
typedef enum mode { MODE_SLOW, MODE_MAKES, MODE_FREES } mode;

typedef struct wrapper {
    PyObject_HEAD vectorcallfunc vectorcall;
    PyObject *raw;    // the function of cffi
    PyObject *slow;   // callable: the same with all words of a specification
    PyObject *sort;   // of the last handle, or NULL
    PyObject *learn;  // callable: () -> (sort, type, size), or sort -> bool
    PyObject *name, *doc;
    PyObject *weak_references;
    size_t size;    // of what it makes
    uint16_t type;  // of what it makes
    uint8_t arg;    // what it frees
    char mode;
    char is_making;   // it records while tracking is on
    char is_freeing;  // it looks at what lives
} wrapper;

static bool is_something_live(void) {
    FLK_ASSERT(flk_wrappers.live);
    return PyDict_GET_SIZE(flk_wrappers.live) > 0 ||
           atomic_load_explicit(&flk_wrappers.is_asked, memory_order_relaxed);
}

static bool is_idle(const wrapper *self) {
    FLK_ASSERT(self->raw && self->slow);
    return !(self->is_making && flk_tracker_is_enabled()) &&
           !(self->is_freeing && is_something_live());
}

// --- the usual sort ------------------------------------------------------
// The last sort: a new reference, or NULL without an exception.
static PyObject *sort_of(wrapper *self) {
    PyObject *sort;
    FLK_ASSERT(PyGILState_Check());
    FLK_LOCK_CACHE(self);
    sort = Py_XNewRef(self->sort);
    FLK_UNLOCK_CACHE();
    return sort;
}

static void keep_sort(wrapper *self, PyObject *sort) {
    FLK_ASSERT(sort);
    FLK_LOCK_CACHE(self);
    Py_XSETREF(self->sort, Py_NewRef(sort));
    FLK_UNLOCK_CACHE();
}

// Asks what the results are. Two threads may both ask, and learn the same.
static FLK_NOINLINE PyObject *learn_result(wrapper *self) {
    FLK_ASSERT(self->mode == MODE_MAKES);
    PyObject *told = PyObject_CallNoArgs(self->learn);
    PyObject *sort;
    Py_ssize_t size;
    int type;
    if (!told)
        return NULL;
    bool is_good = PyArg_ParseTuple(told, "Oin", &sort, &type, &size);
    if (is_good) {
        self->type = (uint16_t)type;
        self->size = (size_t)size;
        keep_sort(self, sort);
        Py_INCREF(sort);
    }
    Py_DECREF(told);
    return is_good ? sort : NULL;
}

static FLK_NOINLINE bool may_free(wrapper *self, PyObject *sort) {
    FLK_ASSERT(self->mode == MODE_FREES && sort);
    PyObject *answer = PyObject_CallOneArg(self->learn, sort);
    bool is_right = answer == Py_True;
    if (!answer)
        PyErr_Clear();
    Py_XDECREF(answer);
    if (is_right)
        keep_sort(self, sort);
    return is_right;
}

// --- the entry of an object ------------------------------------------------
// The key of an address in `live`: see ledger.key_of.
static PyObject *key_of(const void *address) {
    FLK_ASSERT(address);
    intptr_t number = (intptr_t)address;
    if (FLK_LIKELY(number > 0))
        return PyLong_FromLongLong(-(long long)number);
    PyObject *positive = PyLong_FromVoidPtr((void *)(uintptr_t)address);
    PyObject *key = positive ? PyNumber_Negative(positive) : NULL;
    Py_XDECREF(positive);
    return key;
}

static bool is_counted(PyObject *key) {
    FLK_ASSERT(key && flk_wrappers.counts);
    return PyDict_GET_SIZE(flk_wrappers.counts) > 0 &&
           PyDict_Contains(flk_wrappers.counts, key) != 0;
}

// It replaces an older entry, with its references.
static bool enter(const void *address, PyObject *sort) {
    PyObject *key = key_of(address);
    FLK_ASSERT(flk_wrappers.live && sort);
    bool is_good = key && PyDict_SetItem(flk_wrappers.live, key, sort) == 0;
    if (is_good && FLK_UNLIKELY(is_counted(key)) &&
        PyDict_DelItem(flk_wrappers.counts, key) < 0)
        PyErr_Clear();  // another thread was first
    Py_XDECREF(key);
    return is_good;
}

// The sort of a live object with one reference: borrowed, all sorts stay.
static PyObject *sort_at(PyObject *key) {
    FLK_ASSERT(key && flk_wrappers.live);
    PyObject *sort = PyDict_GetItemWithError(flk_wrappers.live, key);
    return sort && !is_counted(key) ? sort : NULL;
}

// Removes the entry if it still is of this sort.
static bool take_entry(PyObject *key, const PyObject *sort) {
    bool is_taken = false;
    FLK_ASSERT(key && sort);
    FLK_LOCK_CACHE(flk_wrappers.live);
    if (sort_at(key) == sort)
        is_taken = PyDict_DelItem(flk_wrappers.live, key) == 0;
    FLK_UNLOCK_CACHE();
    return is_taken;
}

// --- calls of cffi -----------------------------------------------------------
static PyObject *call_raw(const wrapper *self, PyObject *const *args,
                          size_t flags, PyObject *keywords) {
    FLK_ASSERT(!PyErr_Occurred());
    return PyObject_Vectorcall(self->raw, args, flags, keywords);
}

// cffi refused the arguments, so C was not called: a wrapper may be among
// them, which `slow` replaces. Other errors stay.
static FLK_NOINLINE PyObject *call_again(const wrapper *self,
                                         PyObject *const *args, size_t flags,
                                         PyObject *keywords) {
    FLK_ASSERT(PyErr_Occurred());
    if (keywords || !PyErr_ExceptionMatches(PyExc_TypeError))
        return NULL;
    PyErr_Clear();
    return PyObject_Vectorcall(self->slow, args, flags, NULL);
}

static PyObject *call_idle(const wrapper *self, PyObject *const *args,
                           size_t flags, PyObject *keywords) {
    PyObject *result = call_raw(self, args, flags, keywords);
    FLK_ASSERT(result || PyErr_Occurred());
    return FLK_LIKELY(result != NULL) ? result
                                      : call_again(self, args, flags, keywords);
}

// --- constructors --------------------------------------------------------
static bool enter_result(const wrapper *self, void *address, PyObject *sort) {
    flk_origin origin = flk_allocator_origin(true, self->type);
    FLK_ASSERT(address);
    if (origin.scope == FLK_SCOPE_NOWHERE)
        return true;  // tracking went off meanwhile
    if (!enter(address, sort))
        return false;
    flk_thread *thread = flk_allocator_attach();
    flk_track((uintptr_t)address, self->size, FLK_LAYER_HANDLE, origin.type,
              origin.scope, origin.path);
    flk_allocator_detach(thread);
    return true;
}

static PyObject *call_maker(wrapper *self, PyObject *const *args, size_t flags,
                            PyObject *keywords) {
    FLK_ASSERT(self->mode == MODE_MAKES);
    void *address;
    PyObject *result = call_raw(self, args, flags, keywords);
    if (FLK_UNLIKELY(!result))
        return call_again(self, args, flags, keywords);
    if (FLK_UNLIKELY(!flk_cdata_pointer(result, &address))) {
        PyErr_Clear();
        return result;
    }
    if (!address)
        return result;
    PyObject *sort = sort_of(self);
    if (FLK_UNLIKELY(!sort))
        sort = learn_result(self);
    bool is_good = sort && enter_result(self, address, sort);
    Py_XDECREF(sort);
    if (FLK_UNLIKELY(!is_good))
        Py_CLEAR(result);
    return result;
}

// --- destructors ---------------------------------------------------------
typedef struct dropped {
    PyObject *key, *sort;  // references
    flk_block block;
    bool had_record;
} dropped;

// True: the object of the argument was removed, and `out` has it. False: the
// case is for `slow`, or `is_null`: there is no object.
static bool drop(wrapper *self, PyObject *argument, dropped *out,
                 bool *is_null) {
    void *address;
    *is_null = false;
    FLK_ASSERT(argument && out);
    if (!flk_cdata_pointer(argument, &address)) {
        PyErr_Clear();
        return false;
    }
    *is_null = !address;
    out->key = address ? key_of(address) : NULL;
    if (!out->key)
        return false;
    PyObject *usual = sort_of(self);
    out->sort = Py_XNewRef(sort_at(out->key));
    bool is_taken = out->sort &&
                    (out->sort == usual || may_free(self, out->sort)) &&
                    take_entry(out->key, out->sort);
    Py_XDECREF(usual);
    if (is_taken) {
        out->had_record =
            flk_untrack((uintptr_t)address, FLK_LAYER_HANDLE, &out->block);
        return true;
    }
    PyErr_Clear();
    Py_DECREF(out->key);
    Py_XDECREF(out->sort);
    return false;
}

static void restore(const dropped *it) {
    FLK_ASSERT(it->key && it->sort);
    if (PyDict_Contains(flk_wrappers.live, it->key) != 0)
        return;
    if (it->had_record &&
        PyDict_SetItem(flk_wrappers.live, it->key, it->sort) == 0)
        flk_track(it->block.address, it->block.size_bytes, FLK_LAYER_HANDLE,
                  it->block.type, it->block.scope, it->block.path);
}

// An exception is set: gives the object back if C was not called.
static FLK_NOINLINE void undo(const dropped *it) {
    PyObject *type, *error, *traceback;
    FLK_ASSERT(PyErr_Occurred());
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *answer = PyObject_CallOneArg(flk_wrappers.is_result, error);
    if (answer == Py_False)
        restore(it);
    Py_XDECREF(answer);
    PyErr_Restore(type, error, traceback);
}

static PyObject *call_freer(wrapper *self, PyObject *const *args, size_t flags,
                            PyObject *keywords) {
    FLK_ASSERT(self->mode == MODE_FREES);
    bool has_it = !keywords && PyVectorcall_NARGS(flags) > self->arg &&
                  !flk_observe_is_on();
    dropped it;
    bool is_null = false;
    if (!has_it || !drop(self, args[self->arg], &it, &is_null)) {
        if (keywords || is_null)
            return call_idle(self, args, flags, keywords);
        return PyObject_Vectorcall(self->slow, args, flags, NULL);
    }
    PyObject *result = call_raw(self, args, flags, NULL);
    if (FLK_UNLIKELY(!result))
        undo(&it);
    Py_DECREF(it.key);
    Py_DECREF(it.sort);
    return FLK_LIKELY(result != NULL) ? result
                                      : call_again(self, args, flags, NULL);
}

// --- the type ------------------------------------------------------------
static PyObject *wrapper_call(PyObject *object, PyObject *const *args,
                              size_t flags, PyObject *keywords) {
    wrapper *self = (wrapper *)object;
    FLK_ASSERT(self->raw);
    if (FLK_LIKELY(is_idle(self)))
        return call_idle(self, args, flags, keywords);
    if (self->mode == MODE_MAKES && !flk_observe_is_on())
        return call_maker(self, args, flags, keywords);
    if (self->mode == MODE_FREES)
        return call_freer(self, args, flags, keywords);
    if (keywords)
        return call_raw(self, args, flags, keywords);
    return PyObject_Vectorcall(self->slow, args, flags, NULL);
}

static PyObject *wrapper_new(PyTypeObject *type, PyObject *args,
                             PyObject *kwargs) {
    PyObject *raw, *slow, *name, *doc, *learn;
    int kind, making, freeing, arg;
    (void)kwargs;
    FLK_ASSERT(flk_wrappers.live);
    if (!PyArg_ParseTuple(args, "OOOOOippi", &raw, &slow, &name, &doc, &learn,
                          &kind, &making, &freeing, &arg))
        return NULL;
    wrapper *self = (wrapper *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->vectorcall = wrapper_call;
    self->raw = Py_NewRef(raw);
    self->slow = Py_NewRef(slow);
    self->name = Py_NewRef(name);
    self->doc = Py_NewRef(doc);
    self->learn = Py_NewRef(learn);
    bool is_near = arg >= 0 && arg <= UINT8_MAX;
    self->mode = (char)(is_near ? kind : MODE_SLOW);
    self->arg = (uint8_t)(is_near ? arg : 0);
    self->is_making = (char)making;
    self->is_freeing = (char)freeing;
    return (PyObject *)self;
}

static int wrapper_traverse(PyObject *object, visitproc visit, void *arg) {
    wrapper *self = (wrapper *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->raw);
    Py_VISIT(self->slow);
    Py_VISIT(self->sort);
    Py_VISIT(self->learn);
    Py_VISIT(self->name);
    Py_VISIT(self->doc);
    return 0;
}

static int wrapper_clear(PyObject *object) {
    wrapper *self = (wrapper *)object;
    Py_CLEAR(self->slow);
    Py_CLEAR(self->sort);
    Py_CLEAR(self->learn);
    return 0;
}

static void wrapper_dealloc(PyObject *object) {
    wrapper *self = (wrapper *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weak_references)
        PyObject_ClearWeakRefs(object);
    wrapper_clear(object);
    Py_CLEAR(self->raw);
    Py_CLEAR(self->name);
    Py_CLEAR(self->doc);
    type->tp_free(object);
    Py_DECREF(type);
}

// --- as the function of cffi ----------------------------------------------
static PyObject *wrapper_repr(PyObject *object) {
    return PyUnicode_FromFormat("<instrumented %R>", ((wrapper *)object)->raw);
}

// What a wrapper does not have, the function may have.
static PyObject *wrapper_getattr(PyObject *object, PyObject *name) {
    FLK_ASSERT(object && name);
    PyObject *found = PyObject_GenericGetAttr(object, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return found;
    PyErr_Clear();
    return PyObject_GetAttr(((wrapper *)object)->raw, name);
}

static PyObject *raw_of(PyObject *object, const PyTypeObject *type) {
    FLK_ASSERT(object);
    return Py_TYPE(object) == type ? ((wrapper *)object)->raw : object;
}

static PyObject *wrapper_compare(PyObject *object, PyObject *other, int how) {
    const PyTypeObject *type = Py_TYPE(object);
    FLK_ASSERT(other);
    return PyObject_RichCompare(raw_of(object, type), raw_of(other, type), how);
}

static Py_hash_t wrapper_hash(PyObject *object) {
    return PyObject_Hash(((wrapper *)object)->raw);
}

static PyObject *itself(PyObject *object, PyObject *unused) {
    (void)unused;
    return Py_NewRef(object);
}

static PyObject *refuse(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "cannot pickle %R", object);
}

static PyMethodDef wrapper_methods[] = {{"__copy__", itself, METH_NOARGS, NULL},
                                        {"__deepcopy__", itself, METH_O, NULL},
                                        {"__reduce_ex__", refuse, METH_O, NULL},
                                        {NULL, NULL, 0, NULL}};

#define MEMBER(name, type, field, flags) \
    {name, type, offsetof(wrapper, field), flags, NULL}
static PyMemberDef wrapper_members[] = {
    MEMBER("__vectorcalloffset__", T_PYSSIZET, vectorcall, READONLY),
    MEMBER("__weaklistoffset__", T_PYSSIZET, weak_references, READONLY),
    MEMBER("__name__", T_OBJECT, name, READONLY),
    MEMBER("__qualname__", T_OBJECT, name, READONLY),
    MEMBER("__doc__", T_OBJECT, doc, READONLY),
    MEMBER("_ffi_leak_tracker_raw", T_OBJECT, raw, READONLY),
    MEMBER("_ffi_leak_tracker_making", T_BOOL, is_making, 0),
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot wrapper_slots[] = {
    {Py_tp_new, wrapper_new},           {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_traverse, wrapper_traverse}, {Py_tp_clear, wrapper_clear},
    {Py_tp_call, PyVectorcall_Call},    {Py_tp_repr, wrapper_repr},
    {Py_tp_getattro, wrapper_getattr},  {Py_tp_richcompare, wrapper_compare},
    {Py_tp_hash, wrapper_hash},         {Py_tp_methods, wrapper_methods},
    {Py_tp_members, wrapper_members},   {0, NULL}};

static PyType_Spec wrapper_spec = {
    .name = "ffi_leak_tracker._core.callables.Wrapper",
    .basicsize = sizeof(wrapper),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC,
    .slots = wrapper_slots};

// --- the module ----------------------------------------------------------
static PyObject *set_up_wrappers(PyObject *module, PyObject *args) {
    PyObject *live, *counts, *is_result;
    FLK_ASSERT(!flk_wrappers.live);
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyDict_Type, &live, &PyDict_Type,
                          &counts, &is_result))
        return NULL;
    flk_wrappers.live = Py_NewRef(live);
    flk_wrappers.counts = Py_NewRef(counts);
    flk_wrappers.is_result = Py_NewRef(is_result);
    Py_RETURN_NONE;
}

static PyObject *ask_always(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    atomic_store(&flk_wrappers.is_asked, true);
    Py_RETURN_NONE;
}

static PyMethodDef wrapper_functions[] = {
    {"set_up_wrappers", set_up_wrappers, METH_VARARGS, NULL},
    {"ask_always", ask_always, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

int flk_wrappers_add(PyObject *module) {
    FLK_ASSERT(module);
    PyObject *type = PyType_FromSpec(&wrapper_spec);
    int status = type ? PyModule_AddObjectRef(module, "Wrapper", type) : -1;
    Py_XDECREF(type);
    return status < 0 ? -1 : PyModule_AddFunctions(module, wrapper_functions);
}
#endif
