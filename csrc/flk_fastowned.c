// flk_fastowned.c - .new: memory that a cdata owns. Contract: flk_fast.h.   SPDX-License-Identifier: MIT
// ffi.new_allocator makes the cdata; the two functions it calls are here.
#include "flk_fast.h"

#ifndef PYPY_VERSION
#include "flk_fastalloc.h"
#include "flk_fastcdata.h"

// --- makers ------------------------------------------------------------
static int maker_learn(flk_fast_allocator *self, flk_known_maker *way,
                       PyObject *key) {
    PyObject *made = PyObject_CallMethod((PyObject *)self, "_owned", "(O)",
                                         key);
    if (!made)
        return -1;
    PyObject *maker, *ctype, *release;
    Py_ssize_t bytes;
    int type;
    int good = PyArg_ParseTuple(made, "OOOni", &maker, &ctype, &release,
                                &bytes, &type);
    if (good) {
        Py_XSETREF(way->key, Py_NewRef(key));
        Py_XSETREF(way->maker, Py_NewRef(maker));
        Py_XSETREF(way->ctype, Py_NewRef(ctype));
        Py_XSETREF(way->release,
                   release == Py_None ? NULL : Py_NewRef(release));
        way->item_bytes = (size_t)bytes;
        way->type = (uint16_t)type;
    }
    Py_DECREF(made);
    return good ? 0 : -1;
}

static int maker_of(flk_fast_allocator *self, PyObject *key,
                    flk_known_maker *out) {
    int status = 0;
    FLK_LOCK_CACHE(self);
    flk_known_maker *way = &self->makers[flk_fast_way(key)];
    if (FLK_UNLIKELY(way->key != key))
        status = maker_learn(self, way, key);
    *out = *way;
    Py_XINCREF(out->maker);
    Py_XINCREF(out->ctype);
    Py_XINCREF(out->release);
    FLK_UNLOCK_CACHE();
    return status;
}

static void maker_drop(flk_known_maker *known) {
    Py_XDECREF(known->maker);
    Py_XDECREF(known->ctype);
    Py_XDECREF(known->release);
}

// --- new(type, init) ---------------------------------------------------
// What the maker would return for a plain item, a third of its calls less;
// NULL without an exception if there is no memory: the maker says it.
static PyObject *own_item(const flk_fast_allocator *self,
                          const flk_known_maker *known) {
    flk_origin origin = flk_fast_origin(true, known->type);
    void *memory = flk_fast_allocate(known->item_bytes, self->is_zeroed,
                                     &origin);
    if (!memory)
        return NULL;
    PyObject *item = flk_fast_cdata(memory, known->ctype);
    PyObject *given[2] = {item, known->release};
    PyObject *owner =
        item ? PyObject_Vectorcall(flk_fast.own, given, 2, NULL) : NULL;
    Py_XDECREF(item);
    flk_misuse misuse;
    if (!owner)
        flk_fast_release(memory, known->type, &misuse);
    return owner;
}

static PyObject *make(const flk_known_maker *known, PyObject *init) {
    PyObject *given[2] = {known->ctype, init};
    return PyObject_Vectorcall(known->maker, given, init ? 2 : 1, NULL);
}

PyObject *flk_fast_new(PyObject *object, PyObject *const *args,
                       Py_ssize_t count, PyObject *keywords) {
    flk_fast_allocator *self = (flk_fast_allocator *)object;
    flk_known_maker known;
    if (FLK_UNLIKELY(keywords || count < 1 || count > 2))
        return flk_fast_slowly(object, "_new", args, count, keywords);
    if (FLK_UNLIKELY(maker_of(self, args[0], &known) < 0))
        return NULL;
    PyObject *init = count == 2 && args[1] != Py_None ? args[1] : NULL;
    PyObject *result = NULL;
    if (known.release && !init)
        result = own_item(self, &known);
    if (!result && !PyErr_Occurred())
        result = make(&known, init);
    maker_drop(&known);
    return result;
}

// --- the two functions, for one type -----------------------------------
typedef struct owner {
    PyObject_HEAD
    uint16_t type;
    char is_zeroed;
} owner;

static int owner_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    owner *self = (owner *)object;
    int type, zeroed;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "ip", &type, &zeroed))
        return -1;
    self->type = (uint16_t)type;
    self->is_zeroed = (char)zeroed;
    return 0;
}

static PyObject *owner_alloc(PyObject *object, PyObject *size) {
    owner *self = (owner *)object;
    Py_ssize_t bytes = PyLong_AsSsize_t(size);
    if (bytes < 0)
        return NULL;
    flk_origin origin = flk_fast_origin(true, self->type);
    void *memory = flk_fast_allocate((size_t)bytes, self->is_zeroed, &origin);
    return flk_fast_cdata(memory, flk_fast.void_pointer);
}

static PyObject *owner_free(PyObject *object, PyObject *pointer) {
    void *memory;
    flk_misuse misuse;
    if (!flk_fast_pointer(pointer, &memory))
        return NULL;
    int verdict = flk_fast_release(memory, ((owner *)object)->type, &misuse);
    if (verdict == FLK_FREED || verdict == FLK_NOT_RECORDED)
        Py_RETURN_NONE;
    return flk_fast_tell(&misuse, pointer);
}

static PyMethodDef owner_methods[] = {
    {"alloc", owner_alloc, METH_O, NULL},
    {"free", owner_free, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot owner_slots[] = {{Py_tp_init, owner_init},
                                    {Py_tp_methods, owner_methods},
                                    {0, NULL}};

PyType_Spec flk_fast_owner_spec = {
    .name = "ffi_leak_tracker._core.fast.Owner",
    .basicsize = sizeof(owner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = owner_slots};
#endif
