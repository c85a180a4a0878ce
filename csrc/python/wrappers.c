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
typedef enum mode {
    MODE_SLOW,
    MODE_MAKES,
    MODE_FREES,
    MODE_OUT,
    MODE_CHAINS,
    MODE_REFERS
} mode;

typedef struct wrapper {
    PyObject_HEAD vectorcallfunc vectorcall;
    PyObject *raw;    // the function of cffi
    PyObject *slow;   // callable: the same with all words of a specification
    PyObject *sort;   // of the last handle, or NULL
    PyObject *learn;  // callable: () -> (sort, type, size), or sort -> bool
                      // of MODE_REFERS: records an object that is not live
    PyObject *ok;     // of MODE_OUT: callable(result), or None; of MODE_FREES:
                      // True if the object is behind the pointer
    PyObject *name, *doc;
    PyObject *weak_references;
    size_t size;    // of what it makes
    uint16_t type;  // of what it makes
    uint8_t arg;    // what it frees, fills, replaces or refers to
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
    FLK_ASSERT(self->mode != MODE_FREES);
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

// Another reference to a live object; -1 with an exception.
static int add_reference(PyObject *key) {
    int status = -1;
    FLK_ASSERT(key && flk_wrappers.counts);
    FLK_LOCK_CACHE(flk_wrappers.counts);
    PyObject *found = PyDict_GetItemWithError(flk_wrappers.counts, key);
    PyObject *more = NULL;
    if (found || !PyErr_Occurred())
        more = PyLong_FromLong(found ? PyLong_AsLong(found) + 1 : 2);
    if (more)
        status = PyDict_SetItem(flk_wrappers.counts, key, more);
    Py_XDECREF(more);
    FLK_UNLOCK_CACHE();
    return status;
}

// 1: a reference was dropped, and others remain. 0: there is one only, which
// stays. -1 with an exception.
static int drop_reference(PyObject *key) {
    int status = 0;
    FLK_ASSERT(key && flk_wrappers.counts);
    FLK_LOCK_CACHE(flk_wrappers.counts);
    PyObject *found = PyDict_GetItemWithError(flk_wrappers.counts, key);
    if (found && PyLong_AsLong(found) <= 2) {
        status = PyDict_DelItem(flk_wrappers.counts, key) < 0 ? -1 : 1;
    } else if (found) {
        PyObject *less = PyLong_FromLong(PyLong_AsLong(found) - 1);
        status = less ? PyDict_SetItem(flk_wrappers.counts, key, less) : -1;
        status = status < 0 ? -1 : 1;
        Py_XDECREF(less);
    } else if (PyErr_Occurred()) {
        status = -1;
    }
    FLK_UNLOCK_CACHE();
    return status;
}

// Returns the key. It replaces an older entry, with its references.
static PyObject *enter(const void *address, PyObject *sort) {
    PyObject *key = key_of(address);
    FLK_ASSERT(flk_wrappers.live && sort);
    bool is_good = key && PyDict_SetItem(flk_wrappers.live, key, sort) == 0;
    if (is_good && FLK_UNLIKELY(is_counted(key)) &&
        PyDict_DelItem(flk_wrappers.counts, key) < 0)
        PyErr_Clear();  // another thread was first
    if (!is_good)
        Py_CLEAR(key);
    return key;
}

// The sort of a live object: borrowed, all sorts stay.
static PyObject *sort_at(PyObject *key) {
    FLK_ASSERT(key && flk_wrappers.live);
    return PyDict_GetItemWithError(flk_wrappers.live, key);
}

// Removes the entry if it still is of this sort.
static bool take_entry(PyObject *key, const PyObject *sort) {
    bool is_taken = false;
    FLK_ASSERT(key && sort);
    FLK_LOCK_CACHE(flk_wrappers.live);
    if (sort_at(key) == sort && !is_counted(key))
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
PyObject *flk_wrappers_enter(const void *address, size_t size, uint16_t type,
                             PyObject *sort) {
    flk_origin origin = flk_allocator_origin(true, type);
    FLK_ASSERT(address && sort);
    if (origin.scope == FLK_SCOPE_NOWHERE)
        return Py_NewRef(Py_None);  // tracking went off meanwhile
    PyObject *key = enter(address, sort);
    if (!key)
        return NULL;
    flk_thread *thread = flk_allocator_attach();
    flk_track((uintptr_t)address, size, FLK_LAYER_HANDLE, origin.type,
              origin.scope, origin.path);
    flk_allocator_detach(thread);
    return key;
}

void flk_wrappers_forget(PyObject *key) {
    FLK_ASSERT(key);
    flk_block block;
    PyObject *positive = PyNumber_Negative(key);
    void *address = positive ? PyLong_AsVoidPtr(positive) : NULL;
    Py_XDECREF(positive);
    if (!address || PyDict_DelItem(flk_wrappers.live, key) < 0)
        return;
    if (is_counted(key) && PyDict_DelItem(flk_wrappers.counts, key) < 0)
        PyErr_Clear();
    flk_untrack((uintptr_t)address, FLK_LAYER_HANDLE, &block);
}

// Records what a call made, and returns its result.
static PyObject *with_record(wrapper *self, void *address, PyObject *result) {
    FLK_ASSERT(address && result);
    PyObject *sort = sort_of(self);
    if (FLK_UNLIKELY(!sort))
        sort = learn_result(self);
    PyObject *key =
        sort ? flk_wrappers_enter(address, self->size, self->type, sort) : NULL;
    bool is_good = key != NULL;
    Py_XDECREF(key);
    Py_XDECREF(sort);
    if (FLK_UNLIKELY(!is_good))
        Py_CLEAR(result);
    return result;
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
    return address ? with_record(self, address, result) : result;
}

static PyObject *call_slow(const wrapper *self, PyObject *const *args,
                           size_t flags) {
    FLK_ASSERT(self->slow);
    return PyObject_Vectorcall(self->slow, args, flags, NULL);
}

// The address in the argument of the word; false if `slow` must look at it.
static bool argument_of(const wrapper *self, PyObject *const *args,
                        size_t flags, void **address) {
    FLK_ASSERT(address);
    return PyVectorcall_NARGS(flags) > self->arg &&
           flk_cdata_address(args[self->arg], address);
}

// The layer of the records of a sort.
static flk_layer layer_of(PyObject *sort) {
    FLK_ASSERT(sort);
    PyObject *layer = PyObject_GetAttrString(sort, "layer");
    long number = layer ? PyLong_AsLong(layer) : -1;
    Py_XDECREF(layer);
    if (number < 0)
        PyErr_Clear();
    return number < 0 ? FLK_LAYER_HANDLE : (flk_layer)number;
}

// An entry without a record is of an object whose memory was released.
bool flk_wrappers_is_live(const void *address) {
    FLK_ASSERT(address);
    flk_block block;
    PyObject *key = key_of(address);
    PyObject *sort = key ? sort_at(key) : NULL;
    bool is = sort && flk_find((uintptr_t)address, layer_of(sort), &block);
    Py_XDECREF(key);
    return is;
}

// --- objects in arguments ----------------------------------------------------
// 1: the call made something. 0: it did not. -1 with an exception.
static int succeeded(const wrapper *self, PyObject *result) {
    FLK_ASSERT(result);
    if (self->ok == Py_None)
        return PyLong_Check(result)
                   ? PyObject_RichCompareBool(result, flk_wrappers.zero, Py_GE)
                   : 1;
    PyObject *answer = PyObject_CallOneArg(self->ok, result);
    int is = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return is;
}

static PyObject *call_out(wrapper *self, PyObject *const *args, size_t flags) {
    void *argument, **box;
    FLK_ASSERT(self->mode == MODE_OUT);
    if (!argument_of(self, args, flags, &argument))
        return call_slow(self, args, flags);
    box = argument;
    const void *before = box ? *box : NULL;
    PyObject *result = call_raw(self, args, flags, NULL);
    if (FLK_UNLIKELY(!result))
        return call_again(self, args, flags, NULL);
    int is_good = succeeded(self, result);
    if (FLK_UNLIKELY(is_good < 0))
        Py_CLEAR(result);
    if (is_good <= 0 || !box || !*box)
        return result;
    if (self->ok == Py_None && *box == before && flk_wrappers_is_live(before))
        return result;  // nothing was written
    return with_record(self, *box, result);
}

// Removes the object that a call replaced, unless another one is recorded at its
// address by now.
static void forget(const void *address, const PyObject *sort,
                   uint64_t sequence) {
    FLK_ASSERT(address && sort);
    flk_block block;
    if (!flk_find((uintptr_t)address, FLK_LAYER_HANDLE, &block) ||
        block.sequence != sequence)
        return;
    PyObject *key = key_of(address);
    if (key && take_entry(key, sort))
        flk_untrack((uintptr_t)address, FLK_LAYER_HANDLE, &block);
    Py_XDECREF(key);
}

// Whether `slow` is not needed for the object that a call may replace: there is
// none, or it is of the usual sort.
static bool is_usual(wrapper *self, const void *address, uint64_t *sequence) {
    FLK_ASSERT(sequence);
    *sequence = 0;
    if (!address)
        return true;
    flk_block block;
    PyObject *key = key_of(address), *usual = sort_of(self);
    bool is = key && usual && sort_at(key) == usual && !is_counted(key) &&
              flk_find((uintptr_t)address, FLK_LAYER_HANDLE, &block);
    if (is)
        *sequence = block.sequence;
    Py_XDECREF(key);
    Py_XDECREF(usual);
    return is;
}

static PyObject *call_chain(wrapper *self, PyObject *const *args,
                            size_t flags) {
    void *old, *made;
    uint64_t sequence;
    FLK_ASSERT(self->mode == MODE_CHAINS);
    if (!argument_of(self, args, flags, &old) ||
        !is_usual(self, old, &sequence))
        return call_slow(self, args, flags);
    PyObject *result = call_raw(self, args, flags, NULL);
    if (FLK_UNLIKELY(!result))
        return call_again(self, args, flags, NULL);
    if (FLK_UNLIKELY(!flk_cdata_pointer(result, &made))) {
        PyErr_Clear();
        return result;
    }
    if (!made || (made == old && flk_wrappers_is_live(old)))
        return result;
    if (old) {
        PyObject *sort = sort_of(self);
        forget(old, sort, sequence);
        Py_DECREF(sort);
    }
    return with_record(self, made, result);
}

static PyObject *call_referrer(wrapper *self, PyObject *const *args,
                               size_t flags) {
    void *address;
    FLK_ASSERT(self->mode == MODE_REFERS);
    if (!argument_of(self, args, flags, &address))
        return call_slow(self, args, flags);
    PyObject *result = call_raw(self, args, flags, NULL);
    if (FLK_UNLIKELY(!result))
        return call_again(self, args, flags, NULL);
    if (!address)
        return result;
    PyObject *key = key_of(address), *told = NULL;
    bool is_good = false;
    if (key && PyDict_Contains(flk_wrappers.live, key) == 1)
        is_good = add_reference(key) == 0;
    else if (key)
        is_good =
            (told = PyObject_CallOneArg(self->learn, args[self->arg])) != NULL;
    Py_XDECREF(told);
    Py_XDECREF(key);
    if (FLK_UNLIKELY(!is_good))
        Py_CLEAR(result);
    return result;
}

// --- destructors ---------------------------------------------------------
typedef struct dropped {
    void *address;
    PyObject *key, *sort;  // references
    flk_block block;
    bool had_record;
    bool is_reference;  // others remain, and the record
} dropped;

// Whether a handle is memory of a cdata, as of ffi.new; -1 with an exception.
static int is_of_cdata(PyObject *sort) {
    FLK_ASSERT(sort);
    PyObject *answer = PyObject_GetAttrString(sort, "is_owned_by_cdata");
    int is = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return is;
}

// Finds the object of a pointer: its address, its key, and its sort if it is
// live. False: there is no such pointer, or an exception, which is cleared.
static bool find_object(const wrapper *self, PyObject *argument, dropped *out) {
    FLK_ASSERT(argument && out);
    out->key = out->sort = NULL;
    if (!flk_cdata_address(argument, &out->address))
        return false;
    for (bool is_box = self->ok == Py_True; out->address; is_box = false) {
        out->key = key_of(out->address);
        out->sort = out->key ? Py_XNewRef(sort_at(out->key)) : NULL;
        if (!is_box || (out->sort && is_of_cdata(out->sort) != 1))
            break;
        Py_CLEAR(out->key);
        Py_CLEAR(out->sort);
        out->address = *(void **)out->address;
    }
    PyErr_Clear();
    return true;
}

bool flk_wrappers_may_destroy(PyObject *destructor, PyObject *pointer) {
    wrapper *self = (wrapper *)destructor;
    dropped it;
    FLK_ASSERT(Py_TYPE(destructor) == flk_wrappers.type);
    if (!is_something_live())
        return true;
    if (self->mode != MODE_FREES || self->ok == Py_True ||
        !find_object(self, pointer, &it))
        return false;
    PyObject *usual = sort_of(self);
    bool may = it.sort && (it.sort == usual || may_free(self, it.sort));
    bool is_unknown = !it.sort && !atomic_load_explicit(&flk_wrappers.is_asked,
                                                        memory_order_relaxed);
    Py_XDECREF(usual);
    Py_XDECREF(it.key);
    Py_XDECREF(it.sort);
    return may || is_unknown;
}

// True: the object of the argument was removed, and `out` has it. False: the
// case is for `slow`, or `is_null`: there is no object.
static bool drop(wrapper *self, PyObject *argument, dropped *out,
                 bool *is_null) {
    FLK_ASSERT(argument && out);
    bool is_pointer = find_object(self, argument, out);
    *is_null = is_pointer && !out->address;
    if (!out->key)
        return false;
    PyObject *usual = sort_of(self);
    bool may = out->sort && (out->sort == usual || may_free(self, out->sort));
    Py_XDECREF(usual);
    out->is_reference = may && FLK_UNLIKELY(is_counted(out->key)) &&
                        drop_reference(out->key) > 0;
    if (out->is_reference)
        return true;
    if (may && take_entry(out->key, out->sort)) {
        out->had_record =
            flk_untrack((uintptr_t)out->address, FLK_LAYER_HANDLE, &out->block);
        return true;
    }
    PyErr_Clear();
    Py_DECREF(out->key);
    Py_XDECREF(out->sort);
    return false;
}

static void restore(const dropped *it) {
    FLK_ASSERT(it->key && it->sort);
    if (it->is_reference) {
        if (add_reference(it->key) < 0)
            PyErr_Clear();
        return;
    }
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
        return call_slow(self, args, flags);
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
    if (flk_observe_is_on() || !(self->is_making && flk_tracker_is_enabled()))
        return call_slow(self, args, flags);
    switch (self->mode) {
    case MODE_OUT:
        return call_out(self, args, flags);
    case MODE_CHAINS:
        return call_chain(self, args, flags);
    case MODE_REFERS:
        return call_referrer(self, args, flags);
    default:
        return call_slow(self, args, flags);
    }
}

static PyObject *wrapper_new(PyTypeObject *type, PyObject *args,
                             PyObject *kwargs) {
    PyObject *raw, *slow, *name, *doc, *learn, *ok;
    int kind, making, freeing, arg;
    (void)kwargs;
    FLK_ASSERT(flk_wrappers.live);
    if (!PyArg_ParseTuple(args, "OOOOOippiO", &raw, &slow, &name, &doc, &learn,
                          &kind, &making, &freeing, &arg, &ok))
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
    self->ok = Py_NewRef(ok);
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
    Py_VISIT(self->ok);
    Py_VISIT(self->name);
    Py_VISIT(self->doc);
    return 0;
}

static int wrapper_clear(PyObject *object) {
    wrapper *self = (wrapper *)object;
    Py_CLEAR(self->slow);
    Py_CLEAR(self->sort);
    Py_CLEAR(self->learn);
    Py_CLEAR(self->ok);
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
    flk_wrappers.zero = PyLong_FromLong(0);
    Py_RETURN_NONE;
}

static PyObject *ask_always(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    atomic_store(&flk_wrappers.is_asked, true);
    Py_RETURN_NONE;
}

static PyObject *refer(PyObject *module, PyObject *key) {
    (void)module;
    return add_reference(key) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *drop_one(PyObject *module, PyObject *key) {
    (void)module;
    int dropped = drop_reference(key);
    return dropped < 0 ? NULL : PyBool_FromLong(dropped);
}

static PyMethodDef wrapper_functions[] = {
    {"add_reference", refer, METH_O, NULL},
    {"drop_reference", drop_one, METH_O, NULL},
    {"set_up_wrappers", set_up_wrappers, METH_VARARGS, NULL},
    {"ask_always", ask_always, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

int flk_wrappers_add(PyObject *module) {
    FLK_ASSERT(module);
    PyObject *type = PyType_FromSpec(&wrapper_spec);
    int status = type ? PyModule_AddObjectRef(module, "Wrapper", type) : -1;
    flk_wrappers.type = (PyTypeObject *)type;
    Py_XDECREF(type);
    return status < 0 ? -1 : PyModule_AddFunctions(module, wrapper_functions);
}
#endif
