// gate.c - the switch. Contract: tracker/gate.h.                             SPDX-License-Identifier: MIT
#include "tracker/gate.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "tracker/tracker.h"

static struct {
    flk_lock lock;  // guards the rest
    int scopes;
    uint32_t pauses;
    bool wanted, is_attached, forbidden;
    // Tracking was set to off while scopes were open or hooks attached.
    bool scopes_silenced, hooks_silenced;
    // Indexed by the number of the thread that began the pause. Pages that are
    // never touched use no memory.
    uint32_t pauses_of[FLK_THREADS_MAX + 1];
} gate = {.lock = FLK_LOCK_INIT(FLK_RANK_GATE)};

static _Atomic(void (*)(void)) gate_follower;

// Called with the lock held. Returns true if tracking was switched.
static bool apply(void) {
    FLK_ASSERT(gate.scopes >= 0);
    bool by_scope = gate.scopes > 0 && !gate.scopes_silenced;
    bool by_hooks = gate.is_attached && !gate.hooks_silenced;
    bool on = !gate.forbidden && gate.pauses == 0 &&
              (gate.wanted || by_scope || by_hooks);
    bool is_changed = on != flk_tracker_is_enabled();
    if (is_changed)
        flk_tracker_enable(on);
    return is_changed;
}

static void apply_and_release(void) {
    bool is_changed = apply();
    flk_lock_release(&gate.lock);
    void (*follower)(void) = is_changed ? atomic_load(&gate_follower) : NULL;
    if (follower)
        follower();
}

void flk_gate_follow(void (*follower)(void)) {
    atomic_store(&gate_follower, follower);
}

void flk_gate_set(bool on) {
    flk_lock_take(&gate.lock);
    gate.wanted = on;
    gate.scopes_silenced = gate.hooks_silenced = !on;
    apply_and_release();
}

void flk_gate_scope(int change) {
    FLK_ASSERT(change == 1 || change == -1);
    flk_lock_take(&gate.lock);
    gate.scopes += change;
    FLK_ASSERT(gate.scopes >= 0);
    bool outermost = gate.scopes == (change > 0 ? 1 : 0);
    if (!outermost) {
        flk_lock_release(&gate.lock);
        return;
    }
    gate.scopes_silenced = false;
    apply_and_release();
}

void flk_gate_attach(bool on) {
    flk_lock_take(&gate.lock);
    gate.is_attached = on;
    gate.hooks_silenced = false;
    apply_and_release();
}

static uint32_t own_number(void) {
    flk_thread *thread = flk_thread_hold();
    uint32_t number = thread ? thread->number : 0;
    flk_thread_let_go(thread);
    FLK_ASSERT(number <= FLK_THREADS_MAX);
    return number;
}

// Ends a pause of this thread. If it has none, ends a pause of the first thread
// that has one.
static void end_one(uint32_t number) {
    FLK_ASSERT(number <= FLK_THREADS_MAX);
    if (gate.pauses == 0)
        return;
    if (gate.pauses_of[number] == 0)
        for (number = 0; gate.pauses_of[number] == 0;)
            number++;
    gate.pauses_of[number]--;
    gate.pauses--;
}

void flk_gate_pause(int change) {
    uint32_t number = own_number();
    flk_lock_take(&gate.lock);
    for (; change > 0; change--) {
        gate.pauses_of[number]++;
        gate.pauses++;
    }
    for (; change < 0; change++)
        end_one(number);
    apply_and_release();
}

void flk_gate_forked(void) {
    uint32_t number = own_number();
    flk_lock_take(&gate.lock);
    uint32_t own = gate.pauses_of[number];
    FLK_ASSERT(own <= gate.pauses);
    if (own != gate.pauses)
        memset(gate.pauses_of, 0, sizeof gate.pauses_of);
    gate.pauses_of[number] = own;
    gate.pauses = own;
    apply();
    flk_lock_release(&gate.lock);
}

void flk_gate_forbid(void) {
    flk_lock_take(&gate.lock);
    gate.forbidden = true;
    apply_and_release();
}

int flk_gate_scopes(void) {
    flk_lock_take(&gate.lock);
    int count = gate.scopes;
    FLK_ASSERT(count >= 0);
    flk_lock_release(&gate.lock);
    return count;
}

int flk_gate_pauses(void) {
    flk_lock_take(&gate.lock);
    int count = (int)gate.pauses;
    FLK_ASSERT(count >= 0);
    flk_lock_release(&gate.lock);
    return count;
}

void flk_gate_lock_all(void) { flk_lock_take(&gate.lock); }
void flk_gate_unlock_all(void) { flk_lock_release(&gate.lock); }
