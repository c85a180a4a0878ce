// flk_slots.c - from what a slot holds to what it shall hold. Contract: flk_slots.h.  SPDX-License-Identifier: MIT
#include "flk_slots.h"

#ifdef FLK_HAS_ELF
#include "flk_definers.h"
#include "flk_unbound.h"

typedef struct setting {
    flk_patcher *patcher;
    const flk_slots_policy *policy;
    flk_slots_counts *counts;
    bool is_definer;
} setting;

// Which hook set a slot belongs to; FLK_DEFINER_NONE: somebody else's.
static int owner_of(const setting *s, const flk_elf_slot *slot,
                    flk_function *function, bool *is_bound) {
    uintptr_t now = __atomic_load_n(slot->word, __ATOMIC_RELAXED);
    unsigned definer;
    flk_via via;
    *is_bound = true;
    if (flk_hook_is_stub(now, &definer, function, &via))
        return (int)definer;
    int owner = flk_definers_owner(*function, now);
    if (owner >= 0)
        return owner;
    // Not bound: it leads to the object's own linkage table still, or to the
    // program's.
    *is_bound = !(slot->kind == FLK_ELF_JUMP_SLOT &&
                  flk_elf_is_code(s->patcher->elf, now)) &&
                !flk_definers_is_canonical(*function, now);
    return *is_bound ? FLK_DEFINER_NONE : flk_definers_default(*function);
}

static bool is_release(flk_shape shape) {
    return shape == FLK_SHAPE_RELEASE || shape == FLK_SHAPE_RESIZE ||
           shape == FLK_SHAPE_MAP || shape == FLK_SHAPE_UNMAP ||
           shape == FLK_SHAPE_REMAP;
}

static bool is_hooked(const setting *s, flk_function function) {
    if (!s->policy->is_hooked ||
        (function >= FLK_FN_MMAP && !s->policy->with_mappings))
        return false;
    flk_shape shape = flk_hook_info[function].shape;
    // Releases are seen everywhere; what an allocator's own object takes
    // from itself may be on behalf of somebody who is asked for.
    return s->policy->is_asked || is_release(shape) ||
           (s->is_definer && (shape == FLK_SHAPE_ALLOCATE ||
                              shape == FLK_SHAPE_PLACE));
}

static void set_slot(const flk_elf_slot *slot, void *context) {
    setting *s = context;
    flk_function function = flk_hook_named(slot->name);
    if (function == FLK_FN_COUNT)
        return;
    bool is_bound;
    int owner = owner_of(s, slot, &function, &is_bound);
    uintptr_t own = owner < 0 ? 0
                              : flk_hook_original((unsigned)owner, function);
    if (!own) {
        s->counts->others++;
        return;
    }
    bool hooked = is_hooked(s, function);
    if (!hooked && !is_bound)
        return;  // the loader binds it in its own time
    if (!is_bound) {
        flk_unbound_note(slot->word, *slot->word);
        s->counts->unbound++;
    }
    flk_via via = s->policy->is_asked ? FLK_VIA_ASKED : FLK_VIA_QUIET;
    uintptr_t before = flk_unbound_value(slot->word);
    uintptr_t value = hooked ? flk_hook_stub((unsigned)owner, function, via)
                      : before ? before : own;
    s->counts->hooked += flk_patch_word(s->patcher, slot->word, value) &&
                         hooked;
}

void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts) {
    setting s = {patcher, policy, counts,
                 flk_definers_of(patcher->elf) >= 0};
    flk_elf_each_slot(patcher->elf, set_slot, &s);
}
#endif
