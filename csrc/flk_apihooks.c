// flk_apihooks.c - the part of flk_api.h that is about hooks and observers.  SPDX-License-Identifier: MIT
#include "flk.h"
#include "flk_attach.h"
#include "flk_gate.h"
#include "flk_observe.h"
#include "flk_sample.h"

int flk_hooks_attach(const char *const *rules, size_t rule_count,
                     int with_mappings, char *reason, size_t reason_bytes) {
    flk_attach_options options = {rules, rule_count, with_mappings};
    if (flk_attach_begin(&options, reason, reason_bytes) < 0)
        return -1;
    flk_attach_pause(flk_gate_pauses() > 0);
    return 0;
}

void flk_hooks_sample(uint64_t mean_bytes) {
    atomic_store(&flk_sample_mean_bytes, mean_bytes);
}

void flk_hooks_refresh(void) { flk_attach_refresh(); }
void flk_hooks_detach(void) { flk_attach_end(); }

void flk_hooks_drop(void) { flk_attach_drop(); }

void flk_hooks_read(flk_hooks_figures *out) {
    flk_attach_figures f;
    flk_attach_read(&f);
    *out = (flk_hooks_figures){
        .attached = f.attached,
        .paused = f.paused,
        .objects = f.objects,
        .objects_asked = f.objects_asked,
        .definers = f.definers,
        .slots = f.slots,
        .unbound_slots = f.unbound_slots,
        .others_slots = f.others_slots,
        .failed_words = f.failed_words,
        .foreign_frees = f.foreign_frees,
        .mismatched_frees = f.mismatched_frees,
        .reentered = f.reentered,
        .lost_in_fork = f.lost_in_fork,
        .unknown_callers = f.unknown_callers};
}

// --- observers ---------------------------------------------------------
int flk_observed_next(flk_observed *out) { return flk_observe_next(out); }
uint64_t flk_observed_lost(void) { return flk_observe_lost(); }
