// flk_fastcopies.c - living objects as records, and as themselves. Contract: flk_fastobjects.h.  SPDX-License-Identifier: MIT
#include "flk_fastobjects.h"

#ifndef PYPY_VERSION
#include "flk_living.h"
#include "flk_platform.h"

typedef struct copy {
    flk_object *objects;  // pages
    size_t count, capacity, bytes;
    int place;            // FLK_CLASSES_MAX: of all classes
    bool keeps;           // a reference to each
} copy;

// A new reference, unless the object is on its way out.
static bool keep(PyObject *object) {
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
    if (c->keeps && !keep((PyObject *)(uintptr_t)object->address))
        return;
    c->objects[c->count++] = *object;
}

static bool copy_take(copy *c, int tracker, int place, bool keeps) {
    flk_living_figures f;
    flk_living_read(tracker, &f);
    size_t page = flk_page_bytes();
    *c = (copy){.capacity = f.entries, .place = place, .keeps = keeps};
    c->bytes = (f.entries * sizeof *c->objects + page) & ~(page - 1);
    c->objects = flk_pages_map(c->bytes, page);
    if (!c->objects) {
        PyErr_NoMemory();
        return false;
    }
    flk_living_visit(tracker, collect, c);
    return true;
}

static flk_block block_of(const flk_object *object) {
    return (flk_block){.address = object->address,
                       .size_bytes = object->size_bytes,
                       .sequence = object->sequence,
                       .path = object->path,
                       .thread = object->thread,
                       .type = object->type,
                       .layer = FLK_IN_OBJECT};
}

PyObject *flk_table_blocks(PyObject *self, PyObject *args) {
    int tracker, place;
    copy c;
    (void)self;
    if (!flk_table_parse(args, &tracker, &place) ||
        !copy_take(&c, tracker, place, false))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(c.count * sizeof(flk_block)));
    if (bytes) {
        flk_block *blocks = (flk_block *)PyBytes_AS_STRING(bytes);
        for (size_t i = 0; i < c.count; i++)
            blocks[i] = block_of(&c.objects[i]);
    }
    flk_pages_unmap(c.objects, c.bytes);
    return bytes;
}

static PyObject *pair_of(const flk_object *object) {
    return Py_BuildValue("KO", (unsigned long long)object->sequence,
                         (PyObject *)(uintptr_t)object->address);
}

PyObject *flk_table_living(PyObject *self, PyObject *args) {
    int tracker, place;
    copy c;
    (void)self;
    if (!flk_table_parse(args, &tracker, &place) || !copy_take(&c, tracker, place, true))
        return NULL;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < c.count; i++) {
        PyObject *pair = list ? pair_of(&c.objects[i]) : NULL;
        if (list && (!pair || PyList_Append(list, pair) < 0))
            Py_CLEAR(list);
        Py_XDECREF(pair);
        Py_DECREF((PyObject *)(uintptr_t)c.objects[i].address);
    }
    flk_pages_unmap(c.objects, c.bytes);
    return list;
}
#endif
