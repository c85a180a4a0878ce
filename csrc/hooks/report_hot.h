// report_hot.h - an event of a hook, compiled into the hook.             SPDX-License-Identifier: MIT
// Keeps:   nothing; the functions of hooks/report.h with the same contracts.
// Cost:    an event of tracker/tracker_hot.h. Callers: hooks/bodies.c, and hooks/report.c for everybody else.
#ifndef FLK_REPORT_HOT_H
#define FLK_REPORT_HOT_H

#include "hooks/report.h"

#ifdef FLK_HAS_ELF
#include "hooks/sample.h"
#include "hooks/stubs.h"
#include "tracker/context.h"
#include "tracker/observe.h"
#include "tracker/tracker_hot.h"

typedef struct flk_late_event {
    uintptr_t address;
    uint64_t size_bytes;  // 0 and no type: it is gone
    uint16_t type;
    uint8_t layer;
    bool is_made;
} flk_late_event;

// May an event be told to the tracker now? Else it is put off or counted.
static FLK_HOT bool flk_report_may_tell(const flk_marks *marks) {
    const flk_thread *thread = flk_platform_thread_pointer();
    return FLK_LIKELY(!marks->is_forking) &&
           FLK_LIKELY(!thread || !thread->inside);
}
void flk_report_untold(flk_late_event event);
// Somebody observes (tracker/observe.h).
void flk_report_tell_made(flk_layer layer, uintptr_t address);

void flk_report_settle_off(flk_layer layer, uintptr_t address, uint16_t type);
static FLK_HOT void flk_report_settle_hot(flk_layer layer, uintptr_t address,
                                          uint16_t type) {
    if (FLK_UNLIKELY(flk_stubs_state() == FLK_HOOKS_OFF))
        flk_report_settle_off(layer, address, type);
}

static FLK_HOT uint32_t flk_report_scope_now(void) {
    if (FLK_LIKELY(!flk_context_is_open()))
        return FLK_SCOPE_NONE;
    const flk_thread *thread = flk_platform_thread_pointer();
    return thread ? flk_context_scope(thread) : FLK_SCOPE_NONE;
}

static FLK_HOT void flk_report_made_hot(flk_marks *marks, flk_layer layer,
                                        uintptr_t address, uint64_t size_bytes,
                                        uint16_t type) {
    if (FLK_UNLIKELY(!flk_report_may_tell(marks))) {
        flk_report_untold(
            (flk_late_event){address, size_bytes, type, layer, true});
        return;
    }
    if (!flk_sample_takes(marks, size_bytes))
        return;
    flk_origin origin = {type, flk_report_scope_now(), FLK_PATH_WALK_NATIVE};
    flk_tracker_alloc_hot(layer, address, size_bytes, 0, &origin);
    flk_report_settle_hot(layer, address, type);
    if (FLK_UNLIKELY(flk_observe_is_on()))
        flk_report_tell_made(layer, address);
}

void flk_report_gone_wrong(flk_layer layer, uintptr_t address,
                           flk_record *record);
static FLK_HOT void flk_report_gone_hot(const flk_marks *marks, flk_layer layer,
                                        uintptr_t address, uint16_t type) {
    if (FLK_UNLIKELY(!flk_report_may_tell(marks))) {
        flk_report_untold((flk_late_event){address, 0, type, layer, false});
        return;
    }
    flk_record record;
    switch (flk_tracker_free_hot(layer, address, type, &record, NULL, NULL)) {
    case FLK_TAKEN:
        if (FLK_UNLIKELY(flk_observe_is_on()))
            flk_observe_later(FLK_OBSERVED_FREED, layer, address, &record);
        return;
    case FLK_ABSENT:  // or not sampled
        if (!flk_sample_is_on())
            flk_report_count(FLK_HOOK_FOREIGN_FREES);
        return;
    case FLK_KEPT:
        flk_report_gone_wrong(layer, address, &record);
    }
}
#endif
#endif
