// allocator.c - the C half of ffi_leak_tracker.allocators.Allocator.     SPDX-License-Identifier: MIT
// Unusual calls (keywords, wrong arguments, no memory, misuse, a pointer with an owner) go to the Python methods
// _call, _free, _realloc and _new. Only these raise errors, so both halves raise the same ones.
#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
#include <structmember.h>

#include "python/allocator.h"
#include "python/cdata.h"

// --- types -------------------------------------------------------------
// Fills in a cache entry from what the Python method says about a type.
static FLK_NOINLINE int type_learn(flk_allocator *self, flk_known_type *entry,
                                   PyObject *key, const char *method) {
    FLK_ASSERT(PyGILState_Check());
    FLK_ASSERT(entry->key != key);
    PyObject *item = PyObject_CallMethod((PyObject *)self, method, "(O)", key);
    if (!item)
        return -1;
    PyObject *pointer_type;
    Py_ssize_t bytes;
    int type;
    int good = PyArg_ParseTuple(item, "Oni", &pointer_type, &bytes, &type);
    if (good) {
        Py_XSETREF(entry->key, Py_NewRef(key));
        Py_XSETREF(entry->pointer_type, Py_NewRef(pointer_type));
        entry->item_bytes = (size_t)bytes;
        entry->type = (uint16_t)type;
    }
    Py_DECREF(item);
    return good ? 0 : -1;
}

// Copies the meaning of a type argument, with a new reference to the pointer
// type. -1 with an exception.
static FLK_HOT int type_of(flk_allocator *self, flk_known_type *cache,
                           PyObject *key, const char *method,
                           flk_known_type *out) {
    int status = 0;
    FLK_LOCK_CACHE(self);
    flk_known_type *entry = &cache[flk_allocator_index(key)];
    if (FLK_UNLIKELY(entry->key != key))
        status = type_learn(self, entry, key, method);
    *out = *entry;
    Py_XINCREF(out->pointer_type);
    FLK_UNLOCK_CACHE();
    return status;
}

// --- memory ------------------------------------------------------------
// The value of a small int; -1 for anything else.
static Py_ssize_t count_of(PyObject *object) {
    if (!PyLong_CheckExact(object))
        return -1;
    Py_ssize_t count = PyLong_AsSsize_t(object);
    if (count == -1)
        PyErr_Clear();
    return count;
}

// False: negative, or more than a size can hold.
static bool total_of(size_t item_bytes, Py_ssize_t count, size_t *total) {
    FLK_ASSERT(total);
    return count >= 0 &&
           !__builtin_mul_overflow(item_bytes, (size_t)count, total) &&
           *total <= PTRDIFF_MAX;
}

// --- alloc(type, count) ------------------------------------------------
static PyObject *allocator_call(PyObject *object, PyObject *const *args,
                                size_t flags, PyObject *keywords) {
    flk_allocator *self = (flk_allocator *)object;
    Py_ssize_t given = PyVectorcall_NARGS(flags);
    flk_known_type known;
    size_t total;
    if (FLK_UNLIKELY(keywords || given < 1 || given > 2))
        return flk_callables_fall_back(object, "_call", args, given, keywords);
    if (FLK_UNLIKELY(type_of(self, self->types, args[0], "_item", &known) < 0))
        return NULL;
    Py_ssize_t count = given == 2 ? count_of(args[1]) : 1;
    void *memory = NULL;
    if (FLK_LIKELY(total_of(known.item_bytes, count, &total))) {
        flk_origin origin = flk_allocator_origin(self->is_tracking, known.type);
        memory = flk_allocator_allocate(total, self->is_zeroed, &origin);
    }
    PyObject *result =
        memory ? flk_cdata_new(memory, known.pointer_type)
               : flk_callables_fall_back(object, "_call", args, given, NULL);
    Py_DECREF(known.pointer_type);
    return result;
}

// --- free and realloc --------------------------------------------------
static int report(const flk_misuse *misuse, PyObject *pointer) {
    FLK_ASSERT(misuse->verdict != FLK_FREED);
    PyObject *result = flk_callables_report(misuse, pointer);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static PyObject *allocator_free(PyObject *object, PyObject *pointer) {
    const flk_allocator *self = (flk_allocator *)object;
    void *memory;
    flk_misuse misuse;
    if (FLK_UNLIKELY(!flk_cdata_pointer(pointer, &memory))) {
        PyErr_Clear();
        return flk_callables_fall_back(object, "_free", &pointer, 1, NULL);
    }
    int verdict = flk_allocator_release(memory, self->any_type, &misuse);
    if (FLK_LIKELY(verdict >= FLK_FREED))
        Py_RETURN_NONE;
    return flk_callables_report(&misuse, pointer);
}

// The type that a pointer points to.
static int pointee_of(flk_allocator *self, PyObject *pointer,
                      flk_known_type *out) {
    FLK_ASSERT(pointer && flk_callables.type_of);
    PyObject *ctype = PyObject_CallOneArg(flk_callables.type_of, pointer);
    if (!ctype)
        return -1;
    int status = type_of(self, self->pointees, ctype, "_pointee", out);
    Py_DECREF(ctype);
    return status;
}

static PyObject *allocator_realloc(PyObject *object, PyObject *const *args,
                                   Py_ssize_t given, PyObject *keywords) {
    FLK_ASSERT(object && given >= 0);
    flk_allocator *self = (flk_allocator *)object;
    flk_known_type known;
    void *memory, *moved = NULL;
    size_t total;
    if (keywords || given != 2 || !flk_cdata_pointer(args[0], &memory) ||
        pointee_of(self, args[0], &known) < 0) {
        PyErr_Clear();
        return flk_callables_fall_back(object, "_realloc", args, given,
                                       keywords);
    }
    bool is_usual =
        total_of(known.item_bytes, count_of(args[1]), &total) && total > 0;
    flk_misuse misuse = {.verdict = FLK_NO_ROOM};
    if (is_usual) {
        flk_origin origin = flk_allocator_origin(self->is_tracking, known.type);
        flk_thread *thread = flk_allocator_attach();
        moved = flk_heap_reallocate(memory, total, &origin, &misuse);
        flk_allocator_detach(thread);
    }
    // The misuse is reported here. A failed call leaves the block unchanged,
    // so the Python method may try again; it raises the error.
    bool is_misuse = misuse.verdict < 0 && misuse.verdict != FLK_NO_ROOM;
    PyObject *result = NULL;
    if (is_misuse && report(&misuse, args[0]) < 0)
        ;  // it raised; the error names the block
    else if (!moved &&
             (misuse.verdict == FLK_NO_ROOM || misuse.verdict == FLK_OVERRUN))
        result = flk_callables_fall_back(object, "_realloc", args, given, NULL);
    else
        result = flk_cdata_new(moved, known.pointer_type);
    Py_DECREF(known.pointer_type);
    return result;
}

// --- the type ----------------------------------------------------------
static PyObject *allocator_new_object(PyTypeObject *type, PyObject *args,
                                      PyObject *kwargs) {
    (void)args;
    (void)kwargs;
    flk_allocator *self = (flk_allocator *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = allocator_call;
    return (PyObject *)self;
}

static PyObject *allocator_set_up(PyObject *object, PyObject *args) {
    FLK_ASSERT(PyGILState_Check());
    flk_allocator *self = (flk_allocator *)object;
    int zeroed, tracking, any_type;
    if (!PyArg_ParseTuple(args, "ppi", &zeroed, &tracking, &any_type))
        return NULL;
    self->is_zeroed = (char)zeroed;
    self->is_tracking = (char)tracking;
    self->any_type = (uint16_t)any_type;
    Py_RETURN_NONE;
}

static int allocator_traverse(PyObject *object, visitproc visit, void *arg) {
    flk_allocator *self = (flk_allocator *)object;
    Py_VISIT(Py_TYPE(object));
    for (int i = 0; i < FLK_ALLOCATOR_CACHED; i++) {
        Py_VISIT(self->types[i].key);
        Py_VISIT(self->types[i].pointer_type);
        Py_VISIT(self->pointees[i].key);
        Py_VISIT(self->pointees[i].pointer_type);
        Py_VISIT(self->makers[i].key);
        Py_VISIT(self->makers[i].maker);
        Py_VISIT(self->makers[i].ctype);
        Py_VISIT(self->makers[i].release);
    }
    return 0;
}

static int allocator_clear(PyObject *object) {
    flk_allocator *self = (flk_allocator *)object;
    for (int i = 0; i < FLK_ALLOCATOR_CACHED; i++) {
        Py_CLEAR(self->types[i].key);
        Py_CLEAR(self->types[i].pointer_type);
        Py_CLEAR(self->pointees[i].key);
        Py_CLEAR(self->pointees[i].pointer_type);
        Py_CLEAR(self->makers[i].key);
        Py_CLEAR(self->makers[i].maker);
        Py_CLEAR(self->makers[i].ctype);
        Py_CLEAR(self->makers[i].release);
    }
    return 0;
}

static void allocator_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    allocator_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// --- the types -----------------------------------------------------------
PyDoc_STRVAR(
    free_doc,
    "free($self, pointer, /)\n--\n\n"
    "Free a pointer that an allocator returned; NULL is ignored.\n"
    "\n"
    "The pointer may be freed in any thread, and while tracking is off.\n"
    "\n"
    "Raises: TypeError if it is not a pointer; DoubleFreeError,\n"
    "    MismatchedFreeError, and InvalidFreeError (also for a cdata that "
    "owns\n"
    "    its memory), before anything is freed; CorruptionError if guard "
    "bytes\n"
    "    were overwritten. See ``LeakTracker.enable(misuse=)``. A pointer "
    "into\n"
    "    the memory of such a cdata (``ffi.addressof``, ``ffi.cast``) is not\n"
    "    recognized: do not free it.");

PyDoc_STRVAR(
    realloc_doc,
    "realloc($self, /, pointer, count)\n--\n\n"
    "Resize a block to ``count`` items of its type; return the pointer to "
    "it.\n"
    "\n"
    "The record keeps its sequence number and its call path. A NULL pointer\n"
    "gets a new block. A count of 0 frees the block and returns NULL. Added\n"
    "memory is not zeroed. A requested alignment is not kept.\n"
    "\n"
    "Raises: as a call of the allocator, and as ``free``. The old block is "
    "then\n"
    "    as it was.");

PyDoc_STRVAR(
    new_doc,
    "new($self, /, cdecl, init=None)\n--\n\n"
    "Return memory that belongs to the cdata, as ``ffi.new`` does.\n"
    "\n"
    "It is freed when the cdata is collected, at the end of a ``with`` on it, "
    "or\n"
    "by ``ffi.release``. Its record goes then. ``malloc.new`` does not clear "
    "the\n"
    "memory before the initializer.\n"
    "\n"
    "Args:\n"
    "    cdecl: a pointer or array type, as for ``ffi.new``. ``\"int *\"``\n"
    "        makes one int, where a call of the allocator makes a pointer.\n"
    "    init: an initializer, as for ``ffi.new``.\n"
    "\n"
    ">>> from ffi_leak_tracker import calloc\n"
    ">>> with calloc.new(\"int[]\", [1, 2, 3]) as numbers:\n"
    "...     list(numbers)\n"
    "[1, 2, 3]");

static PyMethodDef methods[] = {
    {"free", allocator_free, METH_O, free_doc},
    {"realloc", (PyCFunction)(void (*)(void))allocator_realloc,
     METH_FASTCALL | METH_KEYWORDS, realloc_doc},
    {"new", (PyCFunction)(void (*)(void))flk_allocator_new,
     METH_FASTCALL | METH_KEYWORDS, new_doc},
    {"_set_up", allocator_set_up, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {{"__vectorcalloffset__", T_PYSSIZET,
                                 offsetof(flk_allocator, vectorcall), READONLY,
                                 NULL},
                                {NULL, 0, 0, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, allocator_new_object},
                              {Py_tp_dealloc, allocator_dealloc},
                              {Py_tp_traverse, allocator_traverse},
                              {Py_tp_clear, allocator_clear},
                              {Py_tp_call, PyVectorcall_Call},
                              {Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {0, NULL}};

static PyType_Spec spec = {
    .name = "ffi_leak_tracker._core.callables.AllocatorBase",
    .basicsize = sizeof(flk_allocator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC,
    .slots = slots};

// Before 3.12 a subclass written in Python does not inherit the vectorcall
// flag, so each call makes a tuple of arguments. This sets the flag.
static PyObject *call_directly(PyObject *module, PyObject *type) {
    (void)module;
#if PY_VERSION_HEX < 0x030C0000
    ((PyTypeObject *)type)->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
#endif
    return Py_NewRef(type);
}

static PyMethodDef functions[] = {
    {"call_directly", call_directly, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static int add_type(PyObject *module, const char *name, PyType_Spec *s) {
    PyObject *type = PyType_FromSpec(s);
    int status = type ? PyModule_AddObjectRef(module, name, type) : -1;
    Py_XDECREF(type);
    return status;
}

int flk_allocator_add(PyObject *module) {
    FLK_ASSERT(module);
    return PyModule_AddFunctions(module, functions) < 0 ||
                   add_type(module, "AllocatorBase", &spec) < 0 ||
                   add_type(module, "Owner", &flk_allocator_owner_spec) < 0
               ? -1
               : 0;
}

// --- new(): memory that a cdata owns ------------------------------------
// cffi's ffi.new_allocator makes the cdata. It calls the functions alloc and
// free of an Owner, below.
static int maker_learn(flk_allocator *self, flk_known_maker *entry,
                       PyObject *key) {
    FLK_ASSERT(entry->key != key);
    PyObject *made =
        PyObject_CallMethod((PyObject *)self, "_owned", "(O)", key);
    if (!made)
        return -1;
    PyObject *maker, *ctype, *release;
    Py_ssize_t bytes;
    int type;
    int good = PyArg_ParseTuple(made, "OOOni", &maker, &ctype, &release, &bytes,
                                &type);
    if (good) {
        Py_XSETREF(entry->key, Py_NewRef(key));
        Py_XSETREF(entry->maker, Py_NewRef(maker));
        Py_XSETREF(entry->ctype, Py_NewRef(ctype));
        Py_XSETREF(entry->release,
                   release == Py_None ? NULL : Py_NewRef(release));
        entry->item_bytes = (size_t)bytes;
        entry->type = (uint16_t)type;
    }
    Py_DECREF(made);
    return good ? 0 : -1;
}

static int maker_of(flk_allocator *self, PyObject *key, flk_known_maker *out) {
    FLK_ASSERT(key && out);
    int status = 0;
    FLK_LOCK_CACHE(self);
    flk_known_maker *entry = &self->makers[flk_allocator_index(key)];
    if (FLK_UNLIKELY(entry->key != key))
        status = maker_learn(self, entry, key);
    *out = *entry;
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
// Makes a plain item, as the maker would, with two thirds of its calls. NULL
// without an exception: no memory; the maker raises the error then.
static PyObject *own_item(const flk_allocator *self,
                          const flk_known_maker *known) {
    FLK_ASSERT(known->release && known->ctype && known->item_bytes > 0);
    flk_origin origin = flk_allocator_origin(true, known->type);
    void *memory =
        flk_allocator_allocate(known->item_bytes, self->is_zeroed, &origin);
    if (!memory)
        return NULL;
    PyObject *item = flk_cdata_new(memory, known->ctype);
    PyObject *given[2] = {item, known->release};
    PyObject *owner =
        item ? PyObject_Vectorcall(flk_callables.own, given, 2, NULL) : NULL;
    Py_XDECREF(item);
    flk_misuse misuse;
    if (!owner)
        flk_allocator_release(memory, known->type, &misuse);
    return owner;
}

static PyObject *make(const flk_known_maker *known, PyObject *init) {
    FLK_ASSERT(known->maker && known->ctype);
    PyObject *given[2] = {known->ctype, init};
    return PyObject_Vectorcall(known->maker, given, init ? 2 : 1, NULL);
}

PyObject *flk_allocator_new(PyObject *object, PyObject *const *args,
                            Py_ssize_t count, PyObject *keywords) {
    FLK_ASSERT(object && count >= 0);
    flk_allocator *self = (flk_allocator *)object;
    flk_known_maker known;
    if (FLK_UNLIKELY(keywords || count < 1 || count > 2))
        return flk_callables_fall_back(object, "_new", args, count, keywords);
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

// --- Owner: the two functions for one type -----------------------------
typedef struct owner {
    PyObject_HEAD uint16_t type;
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
    FLK_ASSERT(PyGILState_Check());
    owner *self = (owner *)object;
    Py_ssize_t bytes = PyLong_AsSsize_t(size);
    if (bytes < 0)
        return NULL;
    flk_origin origin = flk_allocator_origin(true, self->type);
    void *memory =
        flk_allocator_allocate((size_t)bytes, self->is_zeroed, &origin);
    return flk_cdata_new(memory, flk_callables.void_pointer);
}

static PyObject *owner_free(PyObject *object, PyObject *pointer) {
    FLK_ASSERT(PyGILState_Check());
    void *memory;
    flk_misuse misuse;
    if (!flk_cdata_pointer(pointer, &memory))
        return NULL;
    int verdict =
        flk_allocator_release(memory, ((owner *)object)->type, &misuse);
    if (verdict == FLK_FREED || verdict == FLK_NOT_RECORDED)
        Py_RETURN_NONE;
    return flk_callables_report(&misuse, pointer);
}

static PyMethodDef owner_methods[] = {{"alloc", owner_alloc, METH_O, NULL},
                                      {"free", owner_free, METH_O, NULL},
                                      {NULL, NULL, 0, NULL}};

static PyType_Slot owner_slots[] = {
    {Py_tp_init, owner_init}, {Py_tp_methods, owner_methods}, {0, NULL}};

PyType_Spec flk_allocator_owner_spec = {
    .name = "ffi_leak_tracker._core.callables.Owner",
    .basicsize = sizeof(owner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = owner_slots};
#endif
