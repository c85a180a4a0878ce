// object_views.c - object trackers as functions for Python. Contract: python/objects.h.  SPDX-License-Identifier: MIT
// Python names a tracker by its number, and a class by its index in the tracker (ffi_leak_tracker/_tracking/objects.py).
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include "paths/thread.h"
#include "registry/object_table.h"

// --- arguments ---------------------------------------------------------
bool flk_object_views_parse(PyObject *args, int *tracker, int *index) {
    FLK_ASSERT(tracker && index);
    if (!PyArg_ParseTuple(args, "ii", tracker, index))
        return false;
    if (*tracker >= 0 && *tracker < FLK_TRACKERS_MAX && *index >= 0 &&
        *index <= FLK_CLASSES_MAX)
        return true;
    PyErr_SetString(PyExc_ValueError, "no such tracker or class");
    return false;
}

static bool is_type(PyObject *object) {
    FLK_ASSERT(object);
    if (PyType_Check(object))
        return true;
    PyErr_SetString(PyExc_TypeError, "not a class");
    return false;
}

// --- trackers ----------------------------------------------------------
static PyObject *table_open(PyObject *self, PyObject *unused) {
    FLK_ASSERT(PyGILState_Check());
    (void)self, (void)unused;
    int tracker = flk_object_table_open();
    FLK_ASSERT(tracker < FLK_TRACKERS_MAX);
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
    int tracker, index;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &index))
        return NULL;
    PyTypeObject *type = flk_classes_remove(tracker, index);
    flk_object_table_forget(tracker, (uint16_t)index);
    Py_XDECREF(type);
    Py_RETURN_NONE;
}

static PyObject *table_queue_events(PyObject *self, PyObject *args) {
    int tracker, index, on;
    (void)self;
    if (!PyArg_ParseTuple(args, "iip", &tracker, &index, &on))
        return NULL;
    FLK_ASSERT(index >= 0 && index < FLK_CLASSES_MAX);
    flk_object_table_tell(tracker, (uint16_t)index, on);
    Py_RETURN_NONE;
}

static PyObject *table_refusal(PyObject *self, PyObject *type) {
    (void)self;
    if (!is_type(type))
        return NULL;
    const char *reason = flk_tracer_refuse((PyTypeObject *)type);
    return PyUnicode_FromString(reason ? reason : "");
}

// Watches a type if it is tracked, else stops watching it.
static PyObject *table_update(PyObject *self, PyObject *object) {
    FLK_ASSERT(PyGILState_Check());
    (void)self;
    if (!is_type(object))
        return NULL;
    PyTypeObject *type = (PyTypeObject *)object;
    if (flk_classes_is_tracked(type))
        return PyBool_FromLong(flk_tracer_watch(type));
    flk_tracer_unwatch(type);
    Py_RETURN_TRUE;
}

// --- reading -----------------------------------------------------------
static PyObject *table_counts(PyObject *self, PyObject *args) {
    int tracker, index;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &index))
        return NULL;
    flk_object_counts counts =
        flk_object_table_counts(tracker, (uint16_t)index);
    return Py_BuildValue("KK", (unsigned long long)counts.made,
                         (unsigned long long)counts.freed);
}

static PyObject *table_forget(PyObject *self, PyObject *args) {
    int tracker, index;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &index))
        return NULL;
    flk_object_table_forget(tracker, (uint16_t)index);
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

// --- living objects ----------------------------------------------------
typedef struct copy {
    flk_object *objects;  // pages
    size_t count, capacity, bytes;
    int index;   // of the class; FLK_CLASSES_MAX: all classes
    bool keeps;  // whether it takes a reference to each object
} copy;

// Takes a reference. False: the object is being deleted.
static bool keep_alive(PyObject *object) {
    FLK_ASSERT(object);
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
    FLK_ASSERT(c->count <= c->capacity);
    if ((c->index != FLK_CLASSES_MAX && object->class_index != c->index) ||
        c->count == c->capacity)
        return;
    if (c->keeps && !keep_alive((PyObject *)(uintptr_t)object->address))
        return;
    c->objects[c->count++] = *object;
}

// Copies the living objects of a class. Objects that are added meanwhile may
// be left out. False with an exception: no memory.
static bool copy_take(copy *c, int tracker, int index, bool keeps) {
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    flk_object_table_figures f;
    flk_object_table_read(tracker, &f);
    *c = (copy){.capacity = f.entries, .index = index, .keeps = keeps};
    c->bytes = flk_platform_pages_for(f.entries * sizeof *c->objects);
    c->objects = flk_platform_pages_map(c->bytes, flk_platform_page_bytes());
    if (!c->objects) {
        PyErr_NoMemory();
        return false;
    }
    flk_object_table_visit(tracker, collect, c);
    return true;
}

static flk_block block_of(const flk_object *object) {
    FLK_ASSERT(object->address);
    return (flk_block){.address = object->address,
                       .size_bytes = object->size_bytes,
                       .sequence = object->sequence,
                       .path = object->path,
                       .thread = object->thread,
                       .type = object->type,
                       .layer = FLK_LAYER_OBJECT};
}

static PyObject *table_blocks(PyObject *self, PyObject *args) {
    int tracker, index;
    copy c;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &index) ||
        !copy_take(&c, tracker, index, false))
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
    FLK_ASSERT(object->address);
    return Py_BuildValue("KO", (unsigned long long)object->sequence,
                         (PyObject *)(uintptr_t)object->address);
}

static PyObject *table_living(PyObject *self, PyObject *args) {
    int tracker, index;
    copy c;
    (void)self;
    if (!flk_object_views_parse(args, &tracker, &index) ||
        !copy_take(&c, tracker, index, true))
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
    FLK_ASSERT(PyGILState_Check());
    (void)self, (void)unused;
    if (!flk_tracer_begin())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *table_end(PyObject *self, PyObject *unused) {
    FLK_ASSERT(PyGILState_Check());
    (void)self, (void)unused;
    flk_tracer_end();
    Py_RETURN_NONE;
}

static PyObject *table_is_complete(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyBool_FromLong(flk_tracer_is_complete());
}

static PyObject *table_learn(PyObject *self, PyObject *type) {
    FLK_ASSERT(PyGILState_Check());
    (void)self;
    if (!is_type(type))
        return NULL;
    flk_tracer_learn((PyTypeObject *)type);
    Py_RETURN_NONE;
}

static PyObject *table_watch_classes(PyObject *self, PyObject *meta) {
    FLK_ASSERT(PyGILState_Check());
    (void)self;
    if (!is_type(meta))
        return NULL;
    flk_type_slots_watch_classes((PyTypeObject *)meta);
    Py_RETURN_NONE;
}

// +1: objects that this thread makes are not recorded until the matching -1.
static PyObject *table_quiet(PyObject *self, PyObject *change) {
    FLK_ASSERT(PyGILState_Check());
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
    {"queue_events", table_queue_events, METH_VARARGS, NULL},
    {"refusal", table_refusal, METH_O, NULL},
    {"update", table_update, METH_O, NULL},
    {"counts", table_counts, METH_VARARGS, NULL},
    {"forget", table_forget, METH_VARARGS, NULL},
    {"figures", table_figures, METH_VARARGS, NULL},
    {"waits", table_waits, METH_NOARGS, NULL},
    {"next_event", table_next_event, METH_VARARGS, NULL},
    {"blocks", table_blocks, METH_VARARGS, NULL},
    {"living", table_living, METH_VARARGS, NULL},
    {"begin", table_begin, METH_NOARGS, NULL},
    {"end", table_end, METH_NOARGS, NULL},
    {"is_complete", table_is_complete, METH_NOARGS, NULL},
    {"learn", table_learn, METH_O, NULL},
    {"watch_classes", table_watch_classes, METH_O, NULL},
    {"quiet", table_quiet, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

static int add_objects(PyObject *module) {
    FLK_ASSERT(module);
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
    FLK_ASSERT(module);
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
