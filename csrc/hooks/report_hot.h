// report_hot.h - events of hooks, compiled into the hooks.               SPDX-License-Identifier: MIT
// Keeps:   nothing. The functions have the contracts of hooks/report.h.
// Cost:    one event of tracker/tracker_hot.h.
// Callers: hooks/bodies.c; hooks/report.c for all other hooks.
#ifndef FLK_REPORT_HOT_H
#define FLK_REPORT_HOT_H

#include "hooks/report.h"

#ifdef FLK_HAS_ELF
#include "hooks/sample.h"
#include "hooks/stub_table.h"
#include "tracker/context.h"
#include "tracker/freed.h"
#include "tracker/observe.h"
#include "tracker/tracker_hot.h"

typedef struct flk_late_event {
    uintptr_t address;
    uint64_t size_bytes;  // 0 for a release
    uint16_t type;
    uint8_t layer;
    bool is_made;
} flk_late_event;

// Whether the tracker may be called now.
static FLK_HOT bool flk_report_may_record(const flk_marks *marks) {
    const flk_thread *thread = flk_platform_thread_pointer();
    FLK_ASSERT(marks == flk_platform_thread_marks());
    return FLK_LIKELY(!marks->is_forking) &&
           FLK_LIKELY(!thread || !thread->inside);
}
// If not: the event is put off (fork) or counted (inside the guard, or no
// memory for the thread's block).
void flk_report_put_off(flk_late_event event);
// There are observers (tracker/observe.h).
void flk_report_observe_made(flk_layer layer, uintptr_t address);
void flk_report_observe_gone(flk_layer layer, uintptr_t address,
                             const flk_record *record);

static FLK_HOT uint32_t flk_report_scope_of(flk_thread *thread) {
    return FLK_LIKELY(!flk_context_is_open())
               ? FLK_SCOPE_NONE
               : flk_context_scope(thread, false);
}

// The comparison stands inside the guard. The end of a session changes its
// number, makes all threads pass a fence, and waits until each of them has
// been seen outside its guard (paths/thread.h). So when the wait is over, no
// thread can enter a record of the ended session any more.
static FLK_HOT bool flk_report_record(flk_thread *thread, uint32_t session,
                                      flk_layer layer, uintptr_t address,
                                      uint64_t size_bytes,
                                      const flk_origin *origin) {
    FLK_ASSERT(thread->inside && origin->type != 0);
    bool is_over = flk_stub_table_session() != session;
    bool is_recorded =
        FLK_LIKELY(!is_over) &&
        flk_tracker_record(thread, layer, address, size_bytes, 0, origin);
    flk_tracker_release_scope(thread);
    flk_thread_leave(thread);
    if (FLK_UNLIKELY(!is_recorded) && !is_over)
        flk_tracker_count(&flk_tracker_counted.dropped);
    return is_recorded;
}

static FLK_HOT bool flk_report_made_hot(flk_marks *marks, uint32_t session,
                                        flk_layer layer, uintptr_t address,
                                        uint64_t size_bytes, uint16_t type) {
    FLK_ASSERT(address != 0 && marks == flk_platform_thread_marks());
    flk_thread *thread = NULL;
    if (FLK_LIKELY(!marks->is_forking)) {  // else drawn when it is recorded
        if (!flk_sample_takes(marks, size_bytes))
            return false;
        thread = flk_thread_enter();
    }
    if (FLK_UNLIKELY(!thread)) {
        flk_report_put_off(
            (flk_late_event){address, size_bytes, type, layer, true});
        return marks->is_forking;
    }
    flk_origin origin = {type, flk_report_scope_of(thread),
                         FLK_PATH_WALK_NATIVE};
    bool is_recorded =
        flk_report_record(thread, session, layer, address, size_bytes, &origin);
    if (FLK_UNLIKELY(flk_observe_is_on()))
        flk_report_observe_made(layer, address);
    return is_recorded;
}

void flk_report_gone_wrong(flk_layer layer, uintptr_t address,
                           flk_record *record);
// The memory at the address of a handle is released: so the object is gone,
// whatever function of its library was called.
void flk_report_handle_gone(uintptr_t address);
// False: the block is not recorded. `caller` is where the release returns to.
// The free is noted before the memory is given to the original function.
static FLK_HOT bool flk_report_gone_hot(const flk_marks *marks, flk_layer layer,
                                        uintptr_t address, uint16_t type,
                                        uintptr_t caller) {
    FLK_ASSERT(address != 0);
    if (FLK_UNLIKELY(!flk_report_may_record(marks))) {
        flk_report_put_off((flk_late_event){address, 0, type, layer, false});
        return true;
    }
    if (FLK_UNLIKELY(FLK_SETTING(has_handles)))
        flk_report_handle_gone(address);
    flk_record record;
    switch (flk_tracker_free_hot(layer, address, type, &record, NULL, NULL)) {
    case FLK_TAKEN:
        flk_freed_note(address, &record, caller);
        if (FLK_UNLIKELY(flk_observe_is_on()))
            flk_report_observe_gone(layer, address, &record);
        return true;
    case FLK_KEPT:
        flk_report_gone_wrong(layer, address, &record);
        flk_freed_note(address, &record, caller);
        return true;
    case FLK_ABSENT:
        break;
    }
    return false;
}
#endif
#endif
