// judge.c - is the release of an unrecorded address misuse? Contract: hooks/judge.h. SPDX-License-Identifier: MIT
#include "hooks/judge.h"

#ifdef FLK_HAS_ELF
#include "base/config.h"
#include "paths/callpath.h"
#include "paths/modules.h"
#include "paths/stack.h"
#include "tracker/misuse.h"
#include "tracker/quarantine.h"
#include "tracker/tell.h"

static struct {
    // Relaxed. `settles`: slots or the state of the hooks change, so some
    // allocations were not seen.
    atomic_bool passes, suspects, settles;
} judgement;

void flk_judge_settle(bool begins) {
    if (!begins) {
        flk_platform_fence_threads();
        flk_freed_clear();
    }
    atomic_store(&judgement.settles, begins);
}

void flk_judge_set(bool passes, bool suspects) {
    atomic_store(&judgement.passes, passes);
    atomic_store(&judgement.suspects, suspects);
}

// --- call paths ------------------------------------------------------------
static uint32_t larger(uint32_t one, uint32_t other) {
    return one > other ? one : other;
}

// The path of this call, with native frames whatever is recorded of others.
static uint32_t path_here(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return FLK_PATH_EMPTY;
    uint32_t depth = larger(FLK_SETTING(stack_depth), FLK_STACK_DEPTH_DEFAULT);
    uint32_t path = flk_stack_capture(thread, depth);
    if (path == FLK_PATH_NONE)
        path = FLK_PATH_EMPTY;
    depth = larger(FLK_SETTING(native_depth), FLK_MISUSE_NATIVE_DEPTH);
    uint32_t whole = flk_stack_add_native(thread, path, depth);
    flk_thread_leave(thread);
    return whole == FLK_PATH_NONE ? path : whole;
}

// The code that freed a block first, as a path of one frame.
static uint32_t path_of_caller(uintptr_t caller) {
    flk_thread *thread = caller ? flk_thread_enter() : NULL;
    if (!thread)
        return FLK_PATH_EMPTY;
    uint32_t site = flk_modules_site_at(caller - 1);
    uint32_t path = site ? flk_callpath_child(FLK_PATH_EMPTY, site) : 0;
    flk_thread_leave(thread);
    return path == FLK_PATH_NONE ? FLK_PATH_EMPTY : path;
}

// --- telling ---------------------------------------------------------------
typedef struct finding {
    int verdict;
    uintptr_t address;  // that is released now
    uint64_t start;     // of the block
    const flk_record *record;
    uint32_t free_path;
    flk_proof proof;
} finding;

static flk_judged tell(const finding *f) {
    FLK_ASSERT(f->verdict < 0 && f->record->type != 0);
    bool is_proven = f->proof == FLK_PROOF_FREE;
    bool passes = !is_proven || atomic_load(&judgement.passes);
    flk_misuse misuse = {
        .verdict = f->verdict,
        .free_path = f->free_path,
        .here_path = path_here(),
        .suspected = !is_proven,
        .passed = passes,
        .address = f->address,
        .block = flk_quarantine_block_of(FLK_LAYER_HEAP, f->start, f->record)};
    flk_misuse_count(is_proven ? f->verdict : FLK_SUSPECTED);
    flk_tell_misuse(&misuse);
    flk_misuse_push(&misuse);
    return passes ? FLK_JUDGED_PASSES : FLK_JUDGED_REFUSED;
}

// In a pause allocations are not seen, so any address may have been given out.
static bool may_suspect(uint32_t stub) {
    return flk_stub_table_state() == FLK_HOOKS_ON &&
           !atomic_load_explicit(&judgement.settles, memory_order_relaxed) &&
           atomic_load_explicit(&judgement.suspects, memory_order_relaxed) &&
           flk_stub_table_via(stub) == FLK_VIA_TRACED;
}

// --- the three kinds -------------------------------------------------------
// The package's own allocators hold their last frees back, which proves it. The
// quarantine gives the memory to the C free later, so it is never passed on.
static flk_judged judge_held(uintptr_t address) {
    flk_free held;
    if (!flk_recent_find(address, &held))
        return FLK_JUDGED_FOREIGN;
    finding f = {FLK_DOUBLE_FREE, address,        address,
                 &held.record,    held.free_path, FLK_PROOF_FREE};
    tell(&f);
    return FLK_JUDGED_REFUSED;
}

static bool is_newer_than_ends(const flk_record *record) {
    return record->sequence > flk_thread_last_end();
}

// An address that was freed before and is not free was given out meanwhile to
// code that is not watched: this is the end of that block, and no misuse.
static flk_judged judge_freed(uintptr_t address, uint32_t stub) {
    flk_freed freed;
    if (!flk_freed_find(address, &freed))
        return FLK_JUDGED_FOREIGN;
    finding f = {FLK_DOUBLE_FREE,
                 address,
                 address,
                 &freed.record,
                 0,
                 flk_proof_of_free(stub, address, freed.record.size_bytes,
                                   is_newer_than_ends(&freed.record))};
    if (f.proof != FLK_PROOF_FREE)
        flk_freed_forget(address);
    if (f.proof == FLK_PROOF_NONE && !may_suspect(stub))
        return FLK_JUDGED_FOREIGN;
    f.free_path = path_of_caller(freed.caller);
    return tell(&f);
}

// The blocks of an allocator that a pattern names may be parts of larger ones,
// which it takes from another allocator.
static flk_judged judge_inside(uintptr_t address, uint32_t stub) {
    flk_entry around;
    if ((FLK_STUB_GET(stub, flags) & FLK_PROVIDER_IS_NAMED &&
         flk_proof_may_carve(stub)) ||
        !flk_registry_containing(FLK_LAYER_HEAP, address, &around))
        return FLK_JUDGED_FOREIGN;
    finding f = {FLK_INTERIOR_FREE,
                 address,
                 around.address,
                 &around.record,
                 0,
                 flk_proof_of_inside(stub, address, around.address,
                                     around.record.size_bytes)};
    return f.proof == FLK_PROOF_NONE && !may_suspect(stub) ? FLK_JUDGED_FOREIGN
                                                           : tell(&f);
}

// --- the release -----------------------------------------------------------
FLK_NOINLINE flk_judged flk_judge_suspect(uintptr_t address, uint32_t stub) {
    FLK_ASSERT(address != 0 && !flk_thread_is_inside());
    flk_judged found = judge_held(address);
    if (found == FLK_JUDGED_FOREIGN)
        found = judge_freed(address, stub);
    return found == FLK_JUDGED_FOREIGN ? judge_inside(address, stub) : found;
}
#endif
