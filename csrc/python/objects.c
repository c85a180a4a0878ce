// objects.c - records births and deaths. Contract: python/objects.h. SPDX-License-Identifier: MIT
#include "python/objects.h"

#ifndef PYPY_VERSION
#include "base/sequence.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/stack.h"
#include "registry/object_table.h"
#include "tracker/tracker.h"

// A bit for each tracker that is open, and for each that runs: relaxed, the
// events of a thread that was told later need not be seen.
static atomic_uint open_trackers, running_trackers;
_Static_assert(FLK_TRACKERS_MAX <= 32, "a bit each");

void flk_objects_run(int tracker, bool on) {
    unsigned bit = 1u << tracker;
    atomic_fetch_or(&open_trackers, bit);
    if (on)
        atomic_fetch_or(&running_trackers, bit);
    else
        atomic_fetch_and(&running_trackers, ~bit);
}

void flk_objects_closed(int tracker) {
    flk_objects_run(tracker, false);
    atomic_fetch_and(&open_trackers, ~(1u << tracker));
}

static void tell_soon(void) {
    if (FLK_UNLIKELY(flk_object_table_waits()))
        flk_observers_tell_soon();
}

// --- births ------------------------------------------------------------
// Made by the part of the package that reads and writes C values, for itself.
static bool is_of_seam(void) {
    flk_raw_frame frame;
    return flk_pyframe_walk(&frame, 1, NULL) == 1 &&
           flk_codes_is_seam(frame.code);
}

// False: nothing is to be recorded now.
static bool describe(PyObject *object, flk_object *out) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool is_ours = thread->quiet > 0 || is_of_seam();
    if (!is_ours) {
        bool was_attached = thread->is_attached;
        thread->is_attached = true;
        uint32_t path = flk_stack_capture(thread, FLK_SETTING(stack_depth));
        thread->is_attached = was_attached;
        *out =
            (flk_object){.address = (uintptr_t)object,
                         .sequence = flk_sequence_take(&thread->sequence,
                                                       flk_sequence_tick()),
                         .path = path == FLK_PATH_NONE ? FLK_PATH_EMPTY : path,
                         // How many items it has is not set yet.
                         .size_bytes = (uint32_t)Py_TYPE(object)->tp_basicsize,
                         .thread = (uint16_t)thread->number};
    }
    flk_thread_leave(thread);
    return !is_ours;
}

// Born again: its finalizer kept it, and its end has not been told.
static bool is_revived(int tracker, const PyTypeObject *type,
                       const flk_object *object) {
    return type->tp_finalize && flk_type_slots_tell_the_end(type) &&
           flk_object_table_has(tracker, object->address);
}

static void record(int tracker, PyTypeObject *type, flk_object *object) {
    int place = flk_classes_of(tracker, type, &object->type);
    if (place < 0 || is_revived(tracker, type, object))
        return;
    object->class_index = (uint16_t)place;
    flk_object_table_add(tracker, object);
}

void flk_objects_made(PyObject *object) {
    unsigned running =
        atomic_load_explicit(&running_trackers, memory_order_relaxed);
    PyTypeObject *type = Py_TYPE(object);
    flk_object made;
    if (!running || !flk_classes_is_wanted(type) || !describe(object, &made))
        return;
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        if (running & 1u << i)
            record(i, type, &made);
    tell_soon();
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    PyUnstable_EnableTryIncRef(object);
#endif
}

// --- deaths ------------------------------------------------------------
void flk_objects_gone(const PyObject *object) {
    unsigned open = atomic_load_explicit(&open_trackers, memory_order_relaxed);
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        if (open & 1u << i)
            flk_object_table_take(i, (uintptr_t)object);
    tell_soon();
}
#endif
