// tracer.c - the interpreter's reference tracer as a source of events. Contract: python/objects.h. SPDX-License-Identifier: MIT
// From 3.13 on the interpreter calls one function right after the creation of each object and before its end. The
// function here calls the one that was set before it, and restores it at the end.
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include "base/platform.h"

void flk_tracer_learn(PyTypeObject *example) { flk_type_slots_learn(example); }
void flk_tracer_unwatch(PyTypeObject *type) { flk_type_slots_unwatch(type); }

#ifdef FLK_HAS_TRACER
static struct {
    bool is_set;  // with the GIL
    PyRefTracer before;
    void *before_data;
} tracer;

// Without an object 3.15 says that this tracer is being replaced. The one that
// was set before was told so when this one replaced it.
static int on_event(PyObject *object, PyRefTracerEvent event, void *data) {
    (void)data;
    FLK_ASSERT(tracer.before != on_event);
    if (FLK_UNLIKELY(!object))
        return 0;
    if (tracer.before)
        tracer.before(object, event, tracer.before_data);
    PyTypeObject *type = Py_TYPE(object);
    // A new type may have the address of a deleted one.
    if (FLK_UNLIKELY(PyType_Check(object)))
        flk_classes_changed((PyTypeObject *)object);
    if (FLK_LIKELY(!flk_classes_is_tracked(type)))
        return 0;
    if (event == PyRefTracer_CREATE) {
        flk_type_slots_watch(type);
        flk_objects_created(object);
    } else if (event == PyRefTracer_DESTROY &&
               !flk_type_slots_report_end(type)) {
        flk_objects_ended(object);
    }
    return 0;
}

bool flk_tracer_begin(void) {
    FLK_ASSERT(PyGILState_Check());
    void *data;
    PyRefTracer now = PyRefTracer_GetTracer(&data);
    if (now == on_event)
        return true;
    tracer.before = now;
    tracer.before_data = data;
    tracer.is_set = PyRefTracer_SetTracer(on_event, NULL) == 0;
    return tracer.is_set;
}

bool flk_tracer_is_complete(void) {
    FLK_ASSERT(PyGILState_Check());
    void *data;
    return tracer.is_set && PyRefTracer_GetTracer(&data) == on_event;
}

void flk_tracer_end(void) {
    FLK_ASSERT(PyGILState_Check());
    if (flk_tracer_is_complete() &&
        PyRefTracer_SetTracer(tracer.before, tracer.before_data) < 0)
        PyErr_Clear();  // it was accepted before, so this does not happen
    tracer.is_set = false;
}

bool flk_tracer_watch(PyTypeObject *type) { return (void)type, true; }

const char *flk_tracer_refuse(PyTypeObject *type) {
    if (type == &PyBaseObject_Type)
        return "every class is a subclass of object: name the classes to "
               "track";
    return flk_type_slots_refuse(type);
}
#else
PyObject *(*flk_objects_init)(PyObject *, PyTypeObject *) = PyObject_Init;

bool flk_tracer_begin(void) { return true; }
void flk_tracer_end(void) {}
bool flk_tracer_is_complete(void) { return true; }
bool flk_tracer_watch(PyTypeObject *type) { return flk_type_slots_watch(type); }
const char *flk_tracer_refuse(PyTypeObject *type) {
    return flk_type_slots_refuse(type);
}
#endif
#endif
