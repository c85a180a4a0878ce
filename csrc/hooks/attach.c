// attach.c - on and off. Contract: hooks/attach.h.     SPDX-License-Identifier: MIT
#include "hooks/attach.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"

// The reason, as much of it as there is room for.
static int refuse(char *reason, size_t reason_bytes, const char *text) {
    if (reason_bytes > 0) {
        size_t length = strlen(text);
        if (length >= reason_bytes)
            length = reason_bytes - 1;
        memcpy(reason, text, length);
        reason[length] = '\0';
    }
    return -1;
}

#ifdef FLK_HAS_ELF
#include "hooks/late_objects.h"
#include "hooks/loader.h"
#include "hooks/passes.h"
#include "hooks/providers.h"
#include "hooks/report.h"
#include "hooks/selection.h"
#include "registry/names.h"
#include "tracker/tracker.h"

// Until the first begin nobody takes the lock: the handlers that keep a fork
// from finding it held come with that.
static atomic_bool was_begun;

static struct {
    flk_lock lock;  // guards the rest, and what stands on FLK_RANK_ATTACH
    bool is_attached, with_mappings;
} attach = {.lock = FLK_LOCK_INIT(FLK_RANK_ATTACH)};

// --- fork --------------------------------------------------------------
// Ours is registered last, so its prepare comes first: from then until our
// part of the parent's or the child's half is done the tracker's locks are
// or may be held by this thread, and its events wait.
static void before_fork(void) {
    flk_lock_take(&attach.lock);
    flk_report_fork_begins();
}

static void after_fork(void) {
    flk_report_fork_ends();
    flk_lock_release(&attach.lock);
}

static void handle_forks(void) {
    flk_platform_at_fork(before_fork, after_fork, after_fork);
    atomic_store(&was_begun, true);
}

void flk_attach_hold(void) {
    if (flk_tracker_init())
        handle_forks();
    flk_lock_take(&attach.lock);
}

void flk_attach_let_go(void) { flk_lock_release(&attach.lock); }

static void take_look_ups(const uintptr_t *addresses) {
    for (int i = 0; i < FLK_FN_COUNT; i++)
        flk_providers_looked_up((flk_function)i, addresses[i]);
}

// In a hook, maybe in a constructor, with any lock of others held: so nothing
// is looked up and nobody is waited for.
static bool do_round(void) {
    if (!flk_lock_try(&attach.lock))
        return false;
    int saved = errno;
    bool is_attached = attach.is_attached;
    if (is_attached) {
        flk_passes_collect();
        flk_passes_patch(true, attach.with_mappings);
    }
    errno = saved;
    flk_lock_release(&attach.lock);
    return is_attached;
}

// --- the four ----------------------------------------------------------
static bool begin_held(const flk_attach_options *o, const char **reason) {
    if (!flk_selection_set(o->rules, o->rule_count))
        *reason = "the patterns are too long";
    else if (!flk_stubs_init())
        *reason = "no memory left for the tracker";
    if (*reason)
        return false;
    flk_loader_read_program();
    bool has_room = flk_passes_collect();
    if (flk_providers_default(FLK_FN_MALLOC) < 0)
        *reason = "no loaded object exports malloc (static C library?)";
    else if (!has_room && !attach.is_attached)
        *reason = "more than 4 loaded objects define malloc";
    if (*reason)
        return false;
    attach.is_attached = true;
    attach.with_mappings = o->with_mappings != 0;
    atomic_store(&flk_tracker_settings.ever_enabled, true);
    flk_tracker_settle();
    if (flk_stubs_read_state() == FLK_HOOKS_OFF)
        flk_stubs_set_state(FLK_HOOKS_ON);
    flk_passes_patch(true, attach.with_mappings);
    return true;
}

int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes) {
    uintptr_t addresses[FLK_FN_COUNT];
    const char *against = flk_loader_reason_against();
    if (!against && !flk_tracker_init())
        against = "no memory left for the tracker";
    if (against)
        return refuse(reason, reason_bytes, against);
    handle_forks();
    flk_loader_keep_us();
    flk_late_objects_start(do_round);
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    take_look_ups(addresses);
    bool done = begin_held(options, &against);
    flk_lock_release(&attach.lock);
    return done ? 0 : refuse(reason, reason_bytes, against);
}

void flk_attach_refresh(void) {
    uintptr_t addresses[FLK_FN_COUNT];
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    bool is_due = attach.is_attached && flk_passes_are_due();
    flk_lock_release(&attach.lock);
    if (!is_due)
        return;
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        take_look_ups(addresses);
        flk_passes_collect();
        flk_passes_patch(true, attach.with_mappings);
    }
    flk_lock_release(&attach.lock);
}

void flk_attach_pause(int is_paused) {
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        flk_stubs_set_state(is_paused ? FLK_HOOKS_PAUSED : FLK_HOOKS_ON);
        if (is_paused)
            flk_stubs_idle_if_empty();
    }
    flk_lock_release(&attach.lock);
}

void flk_attach_end(void) {
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        flk_stubs_set_state(FLK_HOOKS_PAUSED);
        attach.is_attached = false;
        flk_passes_collect();
        flk_passes_patch(false, attach.with_mappings);
        flk_stubs_set_state(FLK_HOOKS_OFF);
    }
    flk_lock_release(&attach.lock);
}

bool flk_attach_has_met(const char *pattern) {
    if (!atomic_load(&was_begun))
        return false;
    flk_lock_take(&attach.lock);
    bool has_met = flk_selection_has_met(pattern);
    flk_lock_release(&attach.lock);
    return has_met;
}

// --- figures -----------------------------------------------------------
void flk_attach_read(flk_attach_figures *out) {
    *out = (flk_attach_figures){.attached = 0};
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    flk_passes_read(out);
    out->attached = attach.is_attached;
    out->paused = attach.is_attached && flk_stubs_read_state() != FLK_HOOKS_ON;
    flk_lock_release(&attach.lock);
    out->foreign_frees = flk_report_counted(FLK_HOOK_FOREIGN_FREES);
    out->mismatched_frees = flk_report_counted(FLK_HOOK_MISMATCHED_FREES);
    out->reentered = flk_report_counted(FLK_HOOK_REENTERED);
    out->lost_in_fork = flk_report_counted(FLK_HOOK_LOST_IN_FORK);
    out->unknown_callers = flk_report_counted(FLK_HOOK_UNKNOWN_CALLERS);
}

void flk_attach_clear_counts(void) { flk_report_clear_counts(); }

// --- drops what the hooks have recorded ---------------------------------
static bool is_of_hooks(uint16_t type) {
    return strcmp(flk_names_at(type)->kind, FLK_HOOK_KIND) == 0;
}

uint64_t flk_attach_drop(void) { return flk_tracker_drop(is_of_hooks); }
#else
int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes) {
    (void)options;
    return refuse(reason, reason_bytes,
                  "attach needs Linux on x86-64 or aarch64");
}
void flk_attach_refresh(void) {}
void flk_attach_pause(int is_paused) { (void)is_paused; }
void flk_attach_end(void) {}
bool flk_attach_has_met(const char *pattern) {
    (void)pattern;
    return false;
}
void flk_attach_read(flk_attach_figures *out) {
    *out = (flk_attach_figures){.attached = 0};
}
void flk_attach_clear_counts(void) {}
uint64_t flk_attach_drop(void) { return 0; }
#endif
