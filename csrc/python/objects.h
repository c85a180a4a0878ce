// objects.h - births and deaths of Python objects, from the interpreter to flk_living.  SPDX-License-Identifier: MIT
// Keeps:   the classes each tracker asks for, and which types are none of them nor of their subclasses.
// Cost:    an object nobody asks for: one compare where it is seen at all; one that is: its call path (paths/stack.h),
//          and a lock and a table entry for each tracker.
// Callers: the interpreter, with the GIL (or attached, where there is none). No Python code runs here, no object
//          is made and no reference is taken or dropped: the interpreter is amid making or unmaking one.
// Fails:   never to the interpreter; what cannot be recorded is counted (registry/object_table.h).
// Where events come from: 3.13 on, the interpreter tells of each object (python/tracer.c). Before, and for deaths
//          that 3.14 does not tell, slots of the types (python/type_slots.c) and imports of the library (hooks/imports.h).
#ifndef FLK_OBJECTS_H
#define FLK_OBJECTS_H

#include "python/callables.h"

#ifndef PYPY_VERSION
#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030D0000
#define FLK_HAS_TRACER 1
#endif

// --- classes (python/classes.c) ---------------------------------------
// The place of the class nearest to a type among those that a tracker asks
// for, -1: none; and the number of the type's name.
int flk_classes_of(int tracker, PyTypeObject *type, uint16_t *name);
// Does any tracker ask for it? Answers are remembered until forgotten.
bool flk_classes_is_wanted(PyTypeObject *type);
// A type came, goes, or is asked for no longer: NULL means all types.
void flk_classes_changed(const PyTypeObject *type);
// Asks for a class (a reference is kept); its place, -1: no room. Takes it
// back; the reference is the caller's then, NULL if it was not asked for.
int flk_classes_add(int tracker, PyTypeObject *type);
PyTypeObject *flk_classes_remove(int tracker, int place);

// --- events (python/objects.c) ----------------------------------------
void flk_objects_made(PyObject *object);
void flk_objects_gone(const PyObject *object);
// While at least one tracker runs, births are told.
void flk_objects_run(int tracker, bool on);
void flk_objects_closed(int tracker);

// --- sources -----------------------------------------------------------
// Why objects of this type cannot be tracked in this interpreter, and what
// to do; NULL if they can. A static text.
const char *flk_tracer_refuses(PyTypeObject *type);
// Sees to it that births and deaths of objects of this very type are told,
// or stops it. False: no room.
bool flk_tracer_watch(PyTypeObject *type);
void flk_tracer_unwatch(PyTypeObject *type);
// A class of Python code: what its slots hold is learned from it.
void flk_tracer_learn(PyTypeObject *example);
// For all types. False with an exception: it was refused.
bool flk_tracer_begin(void);
void flk_tracer_end(void);
// Has nothing escaped since begin? Somebody may have taken our place.
bool flk_tracer_is_whole(void);

// Slots of a type: deaths are told, and births where the interpreter does not
// tell of them. False: no room.
bool flk_type_slots_watch(PyTypeObject *type);
void flk_type_slots_unwatch(PyTypeObject *type);
const char *flk_type_slots_refuse(PyTypeObject *type);
// Is the end of each object of this type told by its slots, and only when no
// finalizer can bring it back any more?
bool flk_type_slots_tell_the_end(const PyTypeObject *type);
// A metaclass: classes that it makes later are watched if asked for.
void flk_type_slots_watch_classes(PyTypeObject *meta);
void flk_type_slots_learn(PyTypeObject *example);

// --- telling (python/observers.c) ---------------------------------------
// What waits is told when Python code may next run in the main thread.
void flk_observers_tell_soon(void);

int flk_observers_add(PyObject *module);

// --- for Python (python/object_views.c) --------------------
// Arguments (tracker, place), checked; false with an exception.
bool flk_object_views_parse(PyObject *args, int *tracker, int *place);
#endif

#endif
