// tracer.c - where events come from. Contract: python/objects.h.    SPDX-License-Identifier: MIT
// 3.13 on, one function is told of each object of the interpreter, right after its birth and before its death. One
// that was there before is still told everything, and gets its place back.
#include "python/objects.h"

#ifndef PYPY_VERSION
#include "base/platform.h"

void flk_tracer_learn(PyTypeObject *example) { flk_type_slots_learn(example); }
void flk_tracer_unwatch(PyTypeObject *type) { flk_type_slots_unwatch(type); }

#ifdef FLK_HAS_TRACER
static struct {
    bool is_ours;  // we were put there; with the GIL
    PyRefTracer before;
    void *before_data;
} tracer;

static int told(PyObject *object, PyRefTracerEvent event, void *data) {
    (void)data;
    if (tracer.before)
        tracer.before(object, event, tracer.before_data);
    PyTypeObject *type = Py_TYPE(object);
    // A type that comes may have the address of one that went.
    if (FLK_UNLIKELY(PyType_Check(object)))
        flk_classes_changed((PyTypeObject *)object);
    bool wanted = flk_classes_is_wanted(type);
    if (FLK_LIKELY(!wanted))
        return 0;
    if (event == PyRefTracer_CREATE) {
        flk_type_slots_watch(type);
        flk_objects_made(object);
    } else if (event == PyRefTracer_DESTROY &&
               !flk_type_slots_tell_the_end(type)) {
        flk_objects_gone(object);
    }
    return 0;
}

bool flk_tracer_begin(void) {
    void *data;
    PyRefTracer now = PyRefTracer_GetTracer(&data);
    if (now == told)
        return true;
    tracer.before = now;
    tracer.before_data = data;
    tracer.is_ours = PyRefTracer_SetTracer(told, NULL) == 0;
    return tracer.is_ours;
}

bool flk_tracer_is_whole(void) {
    void *data;
    return tracer.is_ours && PyRefTracer_GetTracer(&data) == told;
}

void flk_tracer_end(void) {
    if (flk_tracer_is_whole() &&
        PyRefTracer_SetTracer(tracer.before, tracer.before_data) < 0)
        PyErr_Clear();  // it was valid when it stood there
    tracer.is_ours = false;
}

bool flk_tracer_watch(PyTypeObject *type) { return (void)type, true; }

const char *flk_tracer_refuses(PyTypeObject *type) {
    if (type == &PyBaseObject_Type)
        return "every class is a subclass of object: name the classes that "
               "matter";
    return flk_type_slots_refuse(type);
}
#else
PyObject *(*flk_objects_init)(PyObject *, PyTypeObject *) = PyObject_Init;

bool flk_tracer_begin(void) { return true; }
void flk_tracer_end(void) {}
bool flk_tracer_is_whole(void) { return true; }
bool flk_tracer_watch(PyTypeObject *type) { return flk_type_slots_watch(type); }
const char *flk_tracer_refuses(PyTypeObject *type) {
    return flk_type_slots_refuse(type);
}
#endif
#endif
