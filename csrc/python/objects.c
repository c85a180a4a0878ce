// objects.c - records creations and ends. Contract: python/objects.h.    SPDX-License-Identifier: MIT
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include "base/sequence.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/stack.h"
#include "registry/object_table.h"
#include "tracker/tracker.h"

// A bit for each tracker that is open, and for each that records creations.
// Relaxed: an event that happens at the same time may or may not be recorded.
static atomic_uint open_trackers, running_trackers;
_Static_assert(FLK_TRACKERS_MAX <= 32, "one bit for each tracker");

void flk_objects_run(int tracker, bool on) {
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    unsigned bit = 1u << tracker;
    atomic_fetch_or(&open_trackers, bit);
    if (on)
        atomic_fetch_or(&running_trackers, bit);
    else
        atomic_fetch_and(&running_trackers, ~bit);
}

void flk_objects_closed(int tracker) {
    FLK_ASSERT(atomic_load(&open_trackers) & 1u << tracker);
    flk_objects_run(tracker, false);
    atomic_fetch_and(&open_trackers, ~(1u << tracker));
}

static void schedule_delivery(void) {
    if (FLK_UNLIKELY(flk_object_table_waits()))
        flk_observers_schedule();
}

// --- creations ---------------------------------------------------------
// Does the room _seam of this package make the object, for itself?
static bool is_of_seam(void) {
    flk_raw_frame frame;
    return flk_pyframe_innermost(&frame) && flk_codes_is_seam(frame.code);
}

// False: the object is not recorded.
static bool describe(PyObject *object, flk_object *out) {
    FLK_ASSERT(object && out);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool is_own = thread->quiet > 0 || is_of_seam();
    if (!is_own) {
        bool was_attached = thread->is_attached;
        thread->is_attached = true;
        uint32_t path = flk_stack_capture(thread, FLK_SETTING(stack_depth));
        thread->is_attached = was_attached;
        *out =
            (flk_object){.address = (uintptr_t)object,
                         .sequence = flk_sequence_take(&thread->sequence,
                                                       flk_sequence_tick()),
                         .path = path == FLK_PATH_NONE ? FLK_PATH_EMPTY : path,
                         // The number of its items is not set yet.
                         .size_bytes = (uint32_t)Py_TYPE(object)->tp_basicsize,
                         .thread = (uint16_t)thread->number};
    }
    flk_thread_leave(thread);
    return !is_own;
}

// Its finalizer revived it, so its end was not reported.
static bool is_revived(int tracker, const PyTypeObject *type,
                       const flk_object *object) {
    return type->tp_finalize && flk_type_slots_report_end(type) &&
           flk_object_table_has(tracker, object->address);
}

static void record(int tracker, PyTypeObject *type, flk_object *object) {
    FLK_ASSERT(object->address);
    int index = flk_classes_of(tracker, type, &object->type);
    if (index < 0 || is_revived(tracker, type, object))
        return;
    object->class_index = (uint16_t)index;
    flk_object_table_add(tracker, object);
}

void flk_objects_created(PyObject *object) {
    FLK_ASSERT(object && Py_TYPE(object));
    unsigned running =
        atomic_load_explicit(&running_trackers, memory_order_relaxed);
    PyTypeObject *type = Py_TYPE(object);
    flk_object made;
    if (!running || !flk_classes_is_tracked(type) || !describe(object, &made))
        return;
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        if (running & 1u << i)
            record(i, type, &made);
    schedule_delivery();
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    PyUnstable_EnableTryIncRef(object);
#endif
}

// --- ends --------------------------------------------------------------
void flk_objects_ended(const PyObject *object) {
    FLK_ASSERT(object);
    unsigned open = atomic_load_explicit(&open_trackers, memory_order_relaxed);
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        if (open & 1u << i)
            flk_object_table_take(i, (uintptr_t)object);
    schedule_delivery();
}
#endif
