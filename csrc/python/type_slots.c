// type_slots.c - slots of types as a source of events. Contract: python/objects.h.  SPDX-License-Identifier: MIT
// A class of Python code allocates through its tp_alloc and frees through its tp_free, whatever its bases are. Both hold
// known functions, so they can be restored without a copy. Its tp_dealloc cannot be replaced: the interpreter compares
// it to find the base whose tp_dealloc runs next. The tp_dealloc of a type implemented in C is wrapped. Each such type
// has a wrapper of its own, because one tp_dealloc calls that of its base.
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include "base/config.h"
#include "base/platform.h"
#include "hooks/imports.h"

#if !defined(FLK_HAS_TRACER)
#define WATCHES_CREATIONS 1
#endif

static destructor dealloc_of_classes;  // tp_dealloc of classes of Python code

void flk_type_slots_learn(PyTypeObject *example) {
    FLK_ASSERT(example->tp_flags & Py_TPFLAGS_HEAPTYPE);
    dealloc_of_classes = example->tp_dealloc;
}

static bool is_of_python(const PyTypeObject *type) {
    FLK_ASSERT(dealloc_of_classes);
    return type->tp_dealloc == dealloc_of_classes;
}

bool flk_type_slots_report_end(const PyTypeObject *type) {
    FLK_ASSERT(dealloc_of_classes);
    return is_of_python(type);
}

// --- ends of objects of Python classes ---------------------------------
static void free_as_before(void *memory) {
    FLK_ASSERT(memory);
    if (PyType_IS_GC(Py_TYPE((PyObject *)memory)))
        PyObject_GC_Del(memory);
    else
        PyObject_Free(memory);
}

static void python_free(void *memory) {
    FLK_ASSERT(memory);
    flk_objects_ended(memory);
    free_as_before(memory);
}

static freefunc usual_free(const PyTypeObject *type) {
    return type->tp_flags & Py_TPFLAGS_HAVE_GC ? PyObject_GC_Del
                                               : PyObject_Free;
}

// --- ends of objects of C types ----------------------------------------
typedef struct wrapped {
    PyTypeObject *type;  // a reference
    destructor dealloc;
} wrapped;
// Entries stay: a wrapper may still run after its type is unwatched. With the
// GIL.
static wrapped wraps[FLK_WRAPPED_TYPES_MAX];

static void wrapped_dealloc(size_t i, PyObject *object) {
    FLK_ASSERT(i < FLK_WRAPPED_TYPES_MAX && wraps[i].dealloc);
    flk_objects_ended(object);
    wraps[i].dealloc(object);
}

#define DEALLOC(i) \
    static void dealloc_##i(PyObject *object) { wrapped_dealloc(0##i, object); }
#define EIGHT(make, i)                                                \
    make(i##0) make(i##1) make(i##2) make(i##3) make(i##4) make(i##5) \
        make(i##6) make(i##7)
#define ALL(make)  \
    EIGHT(make, 0) \
    EIGHT(make, 1) \
    EIGHT(make, 2) \
    EIGHT(make, 3) EIGHT(make, 4) EIGHT(make, 5) EIGHT(make, 6) EIGHT(make, 7)
ALL(DEALLOC)  // the numbers are octal
#define NAMED(i) dealloc_##i,
static const destructor deallocs[] = {ALL(NAMED)};
_Static_assert(sizeof deallocs / sizeof *deallocs == FLK_WRAPPED_TYPES_MAX,
               "one function for each entry");

static int wrap_of(const PyTypeObject *type) {
    for (int i = 0; i < FLK_WRAPPED_TYPES_MAX; i++)
        if (wraps[i].type == type)
            return i;
    return -1;
}

static uintptr_t code_of(const PyTypeObject *type) {
    int i = wrap_of(type);
    destructor dealloc = i >= 0 ? wraps[i].dealloc : type->tp_dealloc;
    return (uintptr_t)dealloc;
}

static bool is_of_interpreter(const PyTypeObject *type) {
    return flk_imports_share_object(code_of(type), code_of(&PyLong_Type));
}

// False: FLK_WRAPPED_TYPES_MAX types are wrapped.
static bool wrap(PyTypeObject *type) {
    FLK_ASSERT(!is_of_python(type));
    int i = wrap_of(type);
    if (i < 0) {
        i = wrap_of(NULL);
        if (i < 0)
            return false;
        Py_INCREF(type);
        wraps[i].type = type;
    }
    if (type->tp_dealloc != deallocs[i]) {
        wraps[i].dealloc = type->tp_dealloc;
        type->tp_dealloc = deallocs[i];
    }
    return true;
}

static void unwrap(PyTypeObject *type) {
    FLK_ASSERT(type);
    int i = wrap_of(type);
    if (i >= 0 && type->tp_dealloc == deallocs[i])
        type->tp_dealloc = wraps[i].dealloc;
}

// Before 3.13.3 the interpreter does not report all ends. From 3.14 on it does
// not report those that its trashcan delays. In between it reports all, and
// tp_dealloc of its own types must not be replaced: the trashcan compares it.
#if !defined(WATCHES_CREATIONS)
static bool needs_wrap(PyTypeObject *type) {
    return Py_Version < 0x030D03F0 ||
           (Py_Version >= 0x030E0000 && PyType_IS_GC(type));
}
#endif

// --- creations ---------------------------------------------------------
#ifdef WATCHES_CREATIONS
static PyObject *python_alloc(PyTypeObject *type, Py_ssize_t items) {
    PyObject *made = PyType_GenericAlloc(type, items);
    if (made)
        flk_objects_created(made);
    return made;
}

static PyObject *recorded(PyObject *object) {
    if (object)
        flk_objects_created(object);
    return object;
}

static PyObject *init(PyObject *object, PyTypeObject *type) {
    return recorded(PyObject_Init(object, type));
}
static PyVarObject *init_var(PyVarObject *object, PyTypeObject *type,
                             Py_ssize_t items) {
    recorded((PyObject *)PyObject_InitVar(object, type, items));
    return object;
}
static PyObject *new_plain(PyTypeObject *type) {
    return recorded(_PyObject_New(type));
}
static PyVarObject *new_var(PyTypeObject *type, Py_ssize_t items) {
    PyVarObject *object = _PyObject_NewVar(type, items);
    recorded((PyObject *)object);
    return object;
}
static PyObject *new_gc(PyTypeObject *type) {
    return recorded(_PyObject_GC_New(type));
}
static PyVarObject *new_gc_var(PyTypeObject *type, Py_ssize_t items) {
    PyVarObject *object = _PyObject_GC_NewVar(type, items);
    recorded((PyObject *)object);
    return object;
}

// Replaces the imports through which the library of a type makes objects of
// it; returns how many were found.
static size_t replace_imports(PyTypeObject *type) {
    FLK_ASSERT(!is_of_python(type));
    const flk_import imports[] = {
        {"PyObject_Init", (uintptr_t)init},
        {"PyObject_InitVar", (uintptr_t)init_var},
        {"_PyObject_New", (uintptr_t)new_plain},
        {"_PyObject_NewVar", (uintptr_t)new_var},
        {"_PyObject_GC_New", (uintptr_t)new_gc},
        {"_PyObject_GC_NewVar", (uintptr_t)new_gc_var},
        {"PyType_GenericAlloc", (uintptr_t)python_alloc}};
    flk_objects_init = init;
    return flk_imports_replace(code_of(type), imports,
                               sizeof imports / sizeof *imports);
}

// --- classes that are made later ---------------------------------------
static newfunc type_new;  // tp_new of type, before it was replaced

static PyObject *class_new(PyTypeObject *meta, PyObject *args,
                           PyObject *keywords) {
    FLK_ASSERT(type_new && type_new != class_new);
    PyObject *made = type_new(meta, args, keywords);
    if (made && PyType_Check(made)) {
        PyTypeObject *type = (PyTypeObject *)made;
        flk_classes_changed(type);
        if (is_of_python(type) && flk_classes_is_tracked(type))
            flk_type_slots_watch(type);
    }
    return made;
}

// A metaclass without a __new__ of its own holds a copy of the slot of type.
void flk_type_slots_watch_classes(PyTypeObject *meta) {
    if (!type_new)
        type_new = PyType_Type.tp_new;
    if (meta->tp_new == type_new)
        meta->tp_new = class_new;
}
#else
void flk_type_slots_watch_classes(PyTypeObject *meta) { (void)meta; }
#endif

// --- both --------------------------------------------------------------
static bool watch_python(PyTypeObject *type) {
    FLK_ASSERT(is_of_python(type));
#ifdef WATCHES_CREATIONS
    if (type->tp_alloc == PyType_GenericAlloc)
        type->tp_alloc = python_alloc;
#endif
    if (type->tp_free == usual_free(type))
        type->tp_free = python_free;
    return type->tp_free == python_free;
}

bool flk_type_slots_watch(PyTypeObject *type) {
    FLK_ASSERT(dealloc_of_classes);
    if (is_of_python(type))
        return watch_python(type);
#ifdef WATCHES_CREATIONS
    if (!wrap(type))
        return false;
    if (type->tp_alloc == PyType_GenericAlloc)
        type->tp_alloc = python_alloc;
    replace_imports(type);
    return true;
#else
    return !needs_wrap(type) || wrap(type);
#endif
}

void flk_type_slots_unwatch(PyTypeObject *type) {
    FLK_ASSERT(type);
    if (type->tp_free == python_free)
        type->tp_free = usual_free(type);
    unwrap(type);
#ifdef WATCHES_CREATIONS
    if (type->tp_alloc == python_alloc)
        type->tp_alloc = PyType_GenericAlloc;
#endif
}

#ifdef WATCHES_CREATIONS
// Objects of the interpreter's own types come from functions that cannot be
// replaced, and from free lists.
const char *flk_type_slots_refuse(PyTypeObject *type) {
    FLK_ASSERT(dealloc_of_classes);
    if (is_of_python(type) ||
        (!is_of_interpreter(type) && replace_imports(type) > 0))
        return NULL;
    return "before Python 3.13 the interpreter does not report objects of "
           "this class, which is implemented in C: use Python 3.13 or newer, "
           "or track a subclass of it that your code makes";
}
#else
const char *flk_type_slots_refuse(PyTypeObject *type) {
    FLK_ASSERT(dealloc_of_classes);
    if (is_of_python(type) || Py_Version >= 0x030D03F0 ||
        !is_of_interpreter(type))
        return NULL;
    return "Python before 3.13.3 does not report all objects of this class, "
           "which is implemented in C: use 3.13.3 or newer, or track a "
           "subclass of it that your code makes";
}
#endif
#endif
