// objects.h - creation and end of Python objects, from the interpreter to registry/object_table.h. SPDX-License-Identifier: MIT
// Keeps:   the classes that each tracker tracks, and for each type met lately whether it is tracked.
// Cost:    an untracked object costs one compare, if its creation is seen at all. A tracked object costs its call path
//          (paths/stack.h), and a lock and a table entry for each tracker.
// Callers: the interpreter, with the GIL, or attached in a free-threaded interpreter. The interpreter is in the middle
//          of making or deleting an object, so no Python code runs here and no object is made; the reference count of
//          that object does not change.
// Fails:   never visibly to the interpreter. What cannot be recorded is counted (registry/object_table.h).
// Sources: from 3.13 on the interpreter reports each object (python/tracer.c). Before 3.13, and for ends that 3.14 does
//          not report, slots of the types (python/type_slots.c) and imports of their library (hooks/imports.h).
#ifndef FLK_OBJECTS_H
#define FLK_OBJECTS_H

#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030D0000
#define FLK_HAS_TRACER 1
#endif

// --- classes (python/classes.c) ---------------------------------------
// The index of the nearest tracked class of a type in a tracker, -1 if there
// is none. `name` gets the number of the type's name.
int flk_classes_of(int tracker, PyTypeObject *type, uint16_t *name);
// Is the type, or a base of it, tracked by any tracker? The answer is cached
// until flk_classes_changed.
bool flk_classes_is_tracked(PyTypeObject *type);
// A type was made, is about to go, or is no longer tracked. NULL: all types.
void flk_classes_changed(const PyTypeObject *type);
// Adds a class to a tracker and keeps a reference. Its index, or -1:
// FLK_CLASSES_MAX classes are tracked.
int flk_classes_add(int tracker, PyTypeObject *type);
// Removes the class; the caller gets the reference. NULL: no class is there.
PyTypeObject *flk_classes_remove(int tracker, int index);

// --- events (python/objects.c) ----------------------------------------
void flk_objects_created(PyObject *object);
void flk_objects_ended(const PyObject *object);
// Opens a tracker, or changes whether it records creations.
void flk_objects_run(int tracker, bool on);
void flk_objects_closed(int tracker);

// --- sources -----------------------------------------------------------
// A static text: why objects of this type cannot be tracked in this
// interpreter, and what to do about it. NULL: they can.
const char *flk_tracer_refuse(PyTypeObject *type);
// Makes creations and ends of objects of this very type reported, or stops
// it. False: no room.
bool flk_tracer_watch(PyTypeObject *type);
void flk_tracer_unwatch(PyTypeObject *type);
// Learns what the slots of a class of Python code hold. Called once.
void flk_tracer_learn(PyTypeObject *example);
// Begin and end the source that reports objects of all types. False with an
// exception: the interpreter refused.
bool flk_tracer_begin(void);
void flk_tracer_end(void);
// False: another tool has replaced the source, so events were missed.
bool flk_tracer_is_complete(void);

// Makes a type's slots report ends, and creations where the interpreter does
// not report them; or restores the slots. False: no room.
bool flk_type_slots_watch(PyTypeObject *type);
void flk_type_slots_unwatch(PyTypeObject *type);
const char *flk_type_slots_refuse(PyTypeObject *type);
// Do the slots report the end of each object of this type, and only once no
// finalizer can revive the object?
bool flk_type_slots_report_end(const PyTypeObject *type);
// Classes that this metaclass makes later are watched if they are tracked.
void flk_type_slots_watch_classes(PyTypeObject *meta);
void flk_type_slots_learn(PyTypeObject *example);

// --- delivery (python/observers.c) --------------------------------------
// Lets Python code deliver the waiting events in the main thread, soon. From
// any thread, with or without the GIL; keeps errno.
void flk_observers_schedule(void);

int flk_observers_add(PyObject *module);

// --- for Python (python/object_views.c) --------------------------------
// Parses and checks (tracker, index of a class); false with an exception.
bool flk_object_views_parse(PyObject *args, int *tracker, int *index);
#endif

#endif
