// object_views.c - trackers of objects, as view_functions for Python.            SPDX-License-Identifier: MIT
// A tracker is its number and a class its place in it; ffi_leak_tracker/_core_objects.py says what they mean.
#include "python/objects.h"

#ifndef PYPY_VERSION
#include "paths/thread.h"
#include "registry/object_table.h"

// --- arguments ---------------------------------------------------------
bool flk_object_views_parse(PyObject *args, int *tracker, int *place) {
    if (!PyArg_ParseTuple(args, "ii", tracker, place))
        return false;
    if (*tracker >= 0 && *tracker < FLK_TRACKERS_MAX && *place >= 0 &&
        *place <= FLK_CLASSES_MAX)
        return true;
    PyErr_SetString(PyExc_ValueError, "no such tracker or class");
    return false;
}

static bool is_type(PyObject *object) {
    if (PyType_Check(object))
        return true;
    PyErr_SetString(PyExc_TypeError, "not a class");
    return false;
}

// --- trackers ----------------------------------------------------------
static PyObject *table_open(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    int tracker = flk_object_table_open();
    if (tracker >= 0)
        flk_objects_run(tracker, false);
    return PyLong_FromLong(tracker);
}

static PyObject *table_close(PyObject *self, PyObject *args) {
    int tracker, unused;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &unused))
        return NULL;
    flk_objects_closed(tracker);
    flk_object_table_close(tracker);
    Py_RETURN_NONE;
}

static PyObject *table_run(PyObject *self, PyObject *args) {
    int tracker, on;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &on))
        return NULL;
    flk_objects_run(tracker, on);
    Py_RETURN_NONE;
}

// --- classes -----------------------------------------------------------
static PyObject *table_add(PyObject *self, PyObject *args) {
    int tracker;
    PyObject *type;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO!", &tracker, &PyType_Type, &type))
        return NULL;
    return PyLong_FromLong(flk_classes_add(tracker, (PyTypeObject *)type));
}

static PyObject *table_remove(PyObject *self, PyObject *args) {
    int tracker, place;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &place))
        return NULL;
    PyTypeObject *type = flk_classes_remove(tracker, place);
    flk_object_table_forget(tracker, (uint16_t)place);
    Py_XDECREF(type);
    Py_RETURN_NONE;
}

static PyObject *table_tell(PyObject *self, PyObject *args) {
    int tracker, place, on;
    (void)self;
    if (!PyArg_ParseTuple(args, "iip", &tracker, &place, &on))
        return NULL;
    flk_object_table_tell(tracker, (uint16_t)place, on);
    Py_RETURN_NONE;
}

static PyObject *table_refuses(PyObject *self, PyObject *type) {
    (void)self;
    if (!is_type(type))
        return NULL;
    const char *reason = flk_tracer_refuses((PyTypeObject *)type);
    return PyUnicode_FromString(reason ? reason : "");
}

// Brings the slots of a type up to date with what is asked for.
static PyObject *table_settle(PyObject *self, PyObject *object) {
    (void)self;
    if (!is_type(object))
        return NULL;
    PyTypeObject *type = (PyTypeObject *)object;
    if (flk_classes_is_wanted(type))
        return PyBool_FromLong(flk_tracer_watch(type));
    flk_tracer_unwatch(type);
    Py_RETURN_TRUE;
}

// --- reading -----------------------------------------------------------
static PyObject *table_counts(PyObject *self, PyObject *args) {
    int tracker, place;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &place))
        return NULL;
    flk_object_counts counts =
        flk_object_table_counts(tracker, (uint16_t)place);
    return Py_BuildValue("KK", (unsigned long long)counts.made,
                         (unsigned long long)counts.freed);
}

static PyObject *table_forget(PyObject *self, PyObject *args) {
    int tracker, place;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &place))
        return NULL;
    flk_object_table_forget(tracker, (uint16_t)place);
    Py_RETURN_NONE;
}

static PyObject *table_figures(PyObject *self, PyObject *args) {
    int tracker, unused;
    flk_object_table_figures f;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &unused))
        return NULL;
    flk_object_table_read(tracker, &f);
    return Py_BuildValue(
        "KKKKK", (unsigned long long)f.entries, (unsigned long long)f.capacity,
        (unsigned long long)f.bytes, (unsigned long long)f.dropped,
        (unsigned long long)f.waiting);
}

static PyObject *table_waits(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyBool_FromLong(flk_object_table_waits());
}

static PyObject *table_next_event(PyObject *self, PyObject *args) {
    int tracker, unused;
    flk_object_event event;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &unused))
        return NULL;
    if (!flk_object_table_next_event(tracker, &event))
        Py_RETURN_NONE;
    return Py_BuildValue("HHK", event.what, event.class_index,
                         (unsigned long long)event.sequence);
}

// --- living objects as records, and as themselves -----------------------
typedef struct copy {
    flk_object *objects;  // pages
    size_t count, capacity, bytes;
    int place;   // FLK_CLASSES_MAX: of all classes
    bool keeps;  // a reference to each
} copy;

// A new reference, unless the object is on its way out.
static bool keep_alive(PyObject *object) {
#if !defined(Py_GIL_DISABLED)
    if (Py_REFCNT(object) == 0)
        return false;
    Py_INCREF(object);
    return true;
#elif PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_TryIncRef(object);
#else
    return (void)object, false;
#endif
}

static void collect(const flk_object *object, void *context) {
    copy *c = context;
    if ((c->place != FLK_CLASSES_MAX && object->class_index != c->place) ||
        c->count == c->capacity)
        return;
    if (c->keeps && !keep_alive((PyObject *)(uintptr_t)object->address))
        return;
    c->objects[c->count++] = *object;
}

static bool copy_take(copy *c, int tracker, int place, bool keeps) {
    flk_object_table_figures f;
    flk_object_table_read(tracker, &f);
    size_t page = flk_platform_page_bytes();
    *c = (copy){.capacity = f.entries, .place = place, .keeps = keeps};
    c->bytes = (f.entries * sizeof *c->objects + page) & ~(page - 1);
    c->objects = flk_platform_pages_map(c->bytes, page);
    if (!c->objects) {
        PyErr_NoMemory();
        return false;
    }
    flk_object_table_visit(tracker, collect, c);
    return true;
}

static flk_block block_of(const flk_object *object) {
    return (flk_block){.address = object->address,
                       .size_bytes = object->size_bytes,
                       .sequence = object->sequence,
                       .path = object->path,
                       .thread = object->thread,
                       .type = object->type,
                       .layer = FLK_LAYER_OBJECT};
}

static PyObject *table_blocks(PyObject *self, PyObject *args) {
    int tracker, place;
    copy c;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &place) ||
        !copy_take(&c, tracker, place, false))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(c.count * sizeof(flk_block)));
    if (bytes) {
        flk_block *blocks = (flk_block *)PyBytes_AS_STRING(bytes);
        for (size_t i = 0; i < c.count; i++)
            blocks[i] = block_of(&c.objects[i]);
    }
    flk_platform_pages_unmap(c.objects, c.bytes);
    return bytes;
}

static PyObject *pair_of(const flk_object *object) {
    return Py_BuildValue("KO", (unsigned long long)object->sequence,
                         (PyObject *)(uintptr_t)object->address);
}

static PyObject *table_living(PyObject *self, PyObject *args) {
    int tracker, place;
    copy c;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &place) ||
        !copy_take(&c, tracker, place, true))
        return NULL;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < c.count; i++) {
        PyObject *pair = list ? pair_of(&c.objects[i]) : NULL;
        if (list && (!pair || PyList_Append(list, pair) < 0))
            Py_CLEAR(list);
        Py_XDECREF(pair);
        Py_DECREF((PyObject *)(uintptr_t)c.objects[i].address);
    }
    flk_platform_pages_unmap(c.objects, c.bytes);
    return list;
}

// --- the interpreter ---------------------------------------------------
static PyObject *table_begin(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    if (!flk_tracer_begin())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *table_end(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    flk_tracer_end();
    Py_RETURN_NONE;
}

static PyObject *table_is_whole(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyBool_FromLong(flk_tracer_is_whole());
}

static PyObject *table_learn(PyObject *self, PyObject *type) {
    (void)self;
    if (!is_type(type))
        return NULL;
    flk_tracer_learn((PyTypeObject *)type);
    Py_RETURN_NONE;
}

static PyObject *table_watch_classes(PyObject *self, PyObject *meta) {
    (void)self;
    if (!is_type(meta))
        return NULL;
    flk_type_slots_watch_classes((PyTypeObject *)meta);
    Py_RETURN_NONE;
}

// What this thread makes until the matching -1 is not recorded.
static PyObject *table_quiet(PyObject *self, PyObject *change) {
    (void)self;
    long by = PyLong_AsLong(change);
    if (by == -1 && PyErr_Occurred())
        return NULL;
    flk_thread *thread = flk_thread_enter();
    if (thread) {
        thread->quiet += (uint32_t)by;
        flk_thread_leave(thread);
    }
    Py_RETURN_NONE;
}

static PyMethodDef view_functions[] = {
    {"open", table_open, METH_NOARGS, NULL},
    {"close", table_close, METH_VARARGS, NULL},
    {"run", table_run, METH_VARARGS, NULL},
    {"add", table_add, METH_VARARGS, NULL},
    {"remove", table_remove, METH_VARARGS, NULL},
    {"tell", table_tell, METH_VARARGS, NULL},
    {"refuses", table_refuses, METH_O, NULL},
    {"settle", table_settle, METH_O, NULL},
    {"counts", table_counts, METH_VARARGS, NULL},
    {"forget", table_forget, METH_VARARGS, NULL},
    {"figures", table_figures, METH_VARARGS, NULL},
    {"waits", table_waits, METH_NOARGS, NULL},
    {"next_event", table_next_event, METH_VARARGS, NULL},
    {"blocks", table_blocks, METH_VARARGS, NULL},
    {"living", table_living, METH_VARARGS, NULL},
    {"begin", table_begin, METH_NOARGS, NULL},
    {"end", table_end, METH_NOARGS, NULL},
    {"is_whole", table_is_whole, METH_NOARGS, NULL},
    {"learn", table_learn, METH_O, NULL},
    {"watch_classes", table_watch_classes, METH_O, NULL},
    {"quiet", table_quiet, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

static int add_objects(PyObject *module) {
    PyObject *objects = PyModule_New("ffi_leak_tracker._core.objects");
    if (!objects)
        return -1;
    int status = PyModule_AddFunctions(objects, view_functions);
    if (status == 0)
        status = flk_observers_add(objects);
    if (status == 0)
        status = PyObject_SetAttrString(module, "objects", objects);
    Py_DECREF(objects);
    return status;
}

int flk_object_views_install(void *module) {
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = add_objects(module);
    if (status < 0)
        PyErr_WriteUnraisable(module);
    PyGILState_Release(gil);
    return status == 0;
}

#else
#include "base/platform.h"
#include "python/callables.h"

int flk_object_views_install(void *module) { return (void)module, 0; }
#endif
