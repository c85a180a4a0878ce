// attach.c - begin, refresh, pause, end. Contract: hooks/attach.h.     SPDX-License-Identifier: MIT
#include "hooks/attach.h"

#include <errno.h>
#include <string.h>

#include "base/platform.h"

// As much of the reason as there is room for.
static int refuse(char *reason, size_t reason_bytes, const char *text) {
    FLK_ASSERT(text != NULL && (reason != NULL || reason_bytes == 0));
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
#include "hooks/interpreter.h"
#include "hooks/judge.h"
#include "hooks/late_objects.h"
#include "hooks/loader.h"
#include "hooks/passes.h"
#include "hooks/proof.h"
#include "hooks/providers.h"
#include "hooks/report.h"
#include "hooks/selection.h"
#include "hooks/stubs.h"
#include "paths/unwind.h"
#include "tracker/tracker.h"

// The lock is not taken before the first begin, which registers the fork
// handlers: without them a child could inherit the lock from a thread that it
// does not have.
static atomic_bool was_begun;

// In a fork the forking thread takes the lock first and releases it in parent
// and child. So a child finds the lock free, and all that the lock guards
// (here, and under FLK_RANK_ATTACH in this room) as it was between two calls.
// Attached hooks stay attached in the child.
static struct {
    flk_lock lock;
    bool is_attached, with_mappings;
} attach = {.lock = FLK_LOCK_INIT(FLK_RANK_ATTACH)};

static inline bool is_held(void) { return atomic_load(&attach.lock.word); }

// --- fork --------------------------------------------------------------
// The handlers of a set registered last run first before the fork and last
// after it. This set comes after the tracker's, so in between this thread
// holds the tracker's locks, or may, and its events are put off.
static void before_fork(void) {
    FLK_ASSERT(atomic_load(&was_begun));
    flk_lock_take(&attach.lock);
    flk_report_fork_begins();
}

static void after_fork_in_parent(void) {
    FLK_ASSERT(is_held());
    flk_report_fork_ends();
    flk_lock_release(&attach.lock);
}

// The child has no pause of another thread (tracker/gate.h), so tracking may be
// on here and off in the parent. The gate's follower was not called: it takes
// the lock, which this thread holds.
static void follow_tracking(void) {
    bool is_on = flk_tracker_is_enabled();
    if (!attach.is_attached ||
        is_on == (flk_stub_table_read_state() == FLK_HOOKS_ON))
        return;
    flk_stub_table_set_state(is_on ? FLK_HOOKS_ON : FLK_HOOKS_PAUSED);
}

static void after_fork_in_child(void) {
    flk_report_clear_counts();
    flk_platform_thread_marks()->random = 0;  // samples other than the parent's
    follow_tracking();
    after_fork_in_parent();
}

static void handle_forks(void) {
    flk_platform_at_fork(before_fork, after_fork_in_parent,
                         after_fork_in_child);
    atomic_store(&was_begun, true);
}

void flk_attach_lock(void) {
    FLK_ASSERT(!flk_thread_is_inside());
    if (flk_tracker_init())
        handle_forks();
    flk_lock_take(&attach.lock);
}

void flk_attach_unlock(void) {
    FLK_ASSERT(is_held());
    flk_lock_release(&attach.lock);
}

// --- passes --------------------------------------------------------------
static void set_looked_up(const uintptr_t *addresses) {
    FLK_ASSERT(addresses != NULL && is_held());
    for (int i = 0; i < FLK_FN_COUNT; i++)
        flk_providers_set_looked_up((flk_function)i, addresses[i]);
}

static void pass_held(void) {
    FLK_ASSERT(attach.is_attached && is_held());
    flk_passes_collect();
    flk_passes_patch(true, attach.with_mappings);
}

static void patch_all(bool is_hooked) {
    FLK_ASSERT(is_held());
    flk_passes_patch(is_hooked, attach.with_mappings);
    flk_passes_patch_copies();
}

// Runs in a hook, perhaps in a constructor, while the application may hold any
// lock. So nothing is looked up by name, and no lock is waited for. Inside the
// guard (in a signal handler) this thread may hold a lock of the tracker,
// which a thread in the loader may be waiting for.
static bool pass_in_hook(void) {
    if (flk_thread_is_inside() || !flk_lock_try(&attach.lock))
        return false;
    int saved = errno;
    bool is_attached = attach.is_attached;
    if (is_attached)
        pass_held();
    errno = saved;
    flk_lock_release(&attach.lock);
    return is_attached;
}

// --- begin ---------------------------------------------------------------
static const char *reason_against_held(const flk_attach_options *o) {
    FLK_ASSERT(is_held() && (o->rules != NULL || o->rule_count == 0));
    if (!flk_selection_set(o->rules, o->rule_count))
        return "the patterns are too long, more than 65,536 bytes in all: name "
               "fewer libraries, or use * in a pattern";
    flk_passes_select_anew();
    if (!flk_stub_table_init())
        return "no memory left for the tracker";
    flk_loader_read_program();
    bool has_room = flk_passes_collect();
    if (flk_providers_default(FLK_FN_MALLOC) < 0)
        return "no loaded object exports malloc (static C library?)";
    if (!has_room && !attach.is_attached)
        return "more than 4 loaded objects define malloc";
    return NULL;
}
_Static_assert(FLK_PROVIDERS_MAX == 4, "the texts above");

// Frees are seen as soon as their slots are patched. Allocations are recorded
// only once all slots are patched and every thread is certain to see it.
// Otherwise a block could be recorded whose free goes through a slot that is
// not patched yet.
static void begin_session(void) {
    FLK_ASSERT(flk_stub_table_read_state() == FLK_HOOKS_OFF);
    flk_passes_begin_session();
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    flk_judge_settle(true);
    patch_all(true);
    flk_platform_fence_threads();
    flk_stub_table_next_session();
    flk_stub_table_set_state(FLK_HOOKS_ON);
    flk_judge_settle(false);
}

// Code whose slots were not patched may have been given what was freed before.
static void change_session(void) {
    FLK_ASSERT(is_held() && attach.is_attached);
    flk_judge_settle(true);
    patch_all(true);
    flk_judge_settle(false);
}

static const char *begin_held(const flk_attach_options *o) {
    FLK_ASSERT(is_held());
    const char *against = reason_against_held(o);
    if (against)
        return against;
    bool is_new = !attach.is_attached;
    attach.is_attached = true;
    attach.with_mappings = o->with_mappings != 0;
    atomic_store(&flk_tracker_settings.ever_enabled, true);
    flk_tracker_settle();
    if (is_new)
        begin_session();
    else
        change_session();
    return NULL;
}

int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes) {
    FLK_ASSERT(options != NULL && !flk_thread_is_inside());
    uintptr_t addresses[FLK_FN_COUNT];
    const char *against = flk_loader_reason_against();
    if (!against && !flk_tracker_init())
        against = "no memory left for the tracker";
    if (against)
        return refuse(reason, reason_bytes, against);
    handle_forks();
    flk_proof_start();
    flk_loader_keep(flk_stubs_at(0, FLK_FN_MALLOC, FLK_VIA_TRACED));
    flk_late_objects_start(pass_in_hook);
    flk_unwind_start();  // calls of C++ runtimes are judged by the stack, and
                         // misuse is told with native frames
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    set_looked_up(addresses);
    against = begin_held(options);
    flk_lock_release(&attach.lock);
    return against ? refuse(reason, reason_bytes, against) : 0;
}

// --- refresh, pause, end -------------------------------------------------
void flk_attach_refresh(void) {
    uintptr_t addresses[FLK_FN_COUNT];
    FLK_ASSERT(!flk_thread_is_inside());
    if (!atomic_load(&was_begun))
        return;
    flk_interpreter_check_later();
    flk_lock_take(&attach.lock);
    bool is_due = attach.is_attached && flk_passes_are_due();
    flk_lock_release(&attach.lock);
    if (!is_due)
        return;
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        set_looked_up(addresses);
        pass_held();
        flk_passes_patch_copies();
    }
    flk_lock_release(&attach.lock);
}

void flk_attach_pause(int is_paused) {
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        flk_judge_settle(true);
        flk_stub_table_set_state(is_paused ? FLK_HOOKS_PAUSED : FLK_HOOKS_ON);
        flk_judge_settle(false);
        if (is_paused)
            flk_stub_table_idle_if_empty();
    }
    flk_lock_release(&attach.lock);
}

// A call of a hook that began in this session may still be about to record a
// block. It compares the number of the session inside its thread's guard, so
// after the wait no such call can enter a record.
static void end_session(void) {
    FLK_ASSERT(attach.is_attached && is_held());
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    attach.is_attached = false;
    flk_passes_collect();
    patch_all(false);
    flk_stub_table_set_state(FLK_HOOKS_OFF);
    flk_stub_table_next_session();
    flk_thread_wait_outside();
    flk_interpreter_forget();
}

void flk_attach_end(void) {
    FLK_ASSERT(!flk_thread_is_inside());
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    if (attach.is_attached)
        end_session();
    flk_lock_release(&attach.lock);
}

// --- rules and objects ---------------------------------------------------
bool flk_attach_has_met(const char *rule) {
    FLK_ASSERT(rule != NULL);
    if (!atomic_load(&was_begun))
        return false;
    flk_lock_take(&attach.lock);
    bool has_met = flk_selection_has_met(rule);
    flk_lock_release(&attach.lock);
    return has_met;
}

bool flk_attach_fits(const char *rule, const char *path, const char *absolute) {
    FLK_ASSERT(rule != NULL && path != NULL && absolute != NULL);
    flk_selection_object object = {.path = path, .absolute = absolute};
    return flk_selection_fits(rule, &object);
}

size_t flk_attach_list(char *out, size_t out_bytes) {
    if (!atomic_load(&was_begun))
        return 0;
    flk_lock_take(&attach.lock);
    size_t needed = flk_passes_list(out, out_bytes);
    flk_lock_release(&attach.lock);
    return needed;
}

// --- figures -----------------------------------------------------------
void flk_attach_read(flk_attach_figures *out) {
    FLK_ASSERT(out != NULL);
    *out = (flk_attach_figures){.attached = 0};
    if (!atomic_load(&was_begun))
        return;
    flk_lock_take(&attach.lock);
    flk_passes_read(out);
    out->attached = attach.is_attached;
    out->paused =
        attach.is_attached && flk_stub_table_read_state() != FLK_HOOKS_ON;
    flk_lock_release(&attach.lock);
    out->foreign_frees = flk_report_counted(FLK_HOOK_FOREIGN_FREES);
    out->mismatched_frees = flk_report_counted(FLK_HOOK_MISMATCHED_FREES);
    out->reentered = flk_report_counted(FLK_HOOK_REENTERED);
    out->lost_in_fork = flk_report_counted(FLK_HOOK_LOST_IN_FORK);
    out->unknown_callers = flk_report_counted(FLK_HOOK_UNKNOWN_CALLERS);
    out->returned_lost = flk_report_counted(FLK_HOOK_RETURNED_LOST);
    out->proof_blocks = flk_report_counted(FLK_HOOK_PROOF_BLOCKS);
    out->brief_proofs = flk_report_counted(FLK_HOOK_BRIEF_PROOFS);
}

void flk_attach_clear_counts(void) { flk_report_clear_counts(); }

// --- drops what the hooks have recorded ---------------------------------
uint64_t flk_attach_drop(void) {
    return flk_tracker_drop(flk_report_is_of_hooks);
}
#else
#if defined(_WIN32)
#define HERE "Windows"
#elif defined(__APPLE__)
#define HERE "macOS"
#elif defined(__linux__)
#define HERE "Linux on another processor"
#else
#define HERE "another system"
#endif

int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes) {
    (void)options;
    return refuse(reason, reason_bytes,
                  "libraries can be watched on Linux, x86-64 or aarch64; this "
                  "is " HERE);
}
void flk_attach_refresh(void) {}
void flk_attach_lock(void) {}
void flk_attach_unlock(void) {}
void flk_attach_pause(int is_paused) { (void)is_paused; }
void flk_attach_end(void) {}
bool flk_attach_has_met(const char *rule) {
    (void)rule;
    return false;
}
bool flk_attach_fits(const char *rule, const char *path, const char *absolute) {
    (void)rule, (void)path, (void)absolute;
    return false;
}
size_t flk_attach_list(char *out, size_t out_bytes) {
    (void)out, (void)out_bytes;
    return 0;
}
void flk_attach_read(flk_attach_figures *out) {
    *out = (flk_attach_figures){.attached = 0};
}
void flk_attach_clear_counts(void) {}
uint64_t flk_attach_drop(void) { return 0; }
#endif
