// slots.c - from what a slot holds to what it shall hold. Contract: hooks/slots.h.  SPDX-License-Identifier: MIT
#include "hooks/slots.h"

#ifdef FLK_HAS_ELF
#include "base/config.h"
#include "hooks/providers.h"

typedef struct setting {
    flk_patcher *patcher;
    const flk_slots_policy *policy;
    flk_slots_counts *counts;
    bool is_provider;
} setting;

// Which hook set a slot belongs to; FLK_PROVIDER_NONE: somebody else's.
static int owner_of(const setting *s, const flk_elf_slot *slot,
                    flk_function *function, bool *is_bound) {
    uintptr_t now = __atomic_load_n(slot->word, __ATOMIC_RELAXED);
    unsigned provider;
    flk_via via;
    *is_bound = true;
    if (flk_stubs_find(now, &provider, function, &via))
        return (int)provider;
    int owner = flk_providers_owner(*function, now);
    if (owner >= 0)
        return owner;
    // Not bound: it leads to the object's own linkage table still, or to the
    // program's.
    *is_bound = !(slot->kind == FLK_ELF_JUMP_SLOT &&
                  flk_elf_is_code(s->patcher->elf, now)) &&
                !flk_providers_is_canonical(*function, now);
    return *is_bound ? FLK_PROVIDER_NONE : flk_providers_default(*function);
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
    flk_shape shape = flk_functions_info[function].shape;
    // Releases are seen everywhere; what an allocator's own object takes
    // from itself may be on behalf of somebody who is asked for.
    return s->policy->is_traced || is_release(shape) ||
           (s->is_provider &&
            (shape == FLK_SHAPE_ALLOCATE || shape == FLK_SHAPE_PLACE));
}

static void set_slot(const flk_elf_slot *slot, void *context) {
    setting *s = context;
    flk_function function = flk_functions_named(slot->name);
    if (function == FLK_FN_COUNT)
        return;
    bool is_bound;
    int owner = owner_of(s, slot, &function, &is_bound);
    uintptr_t own =
        owner < 0 ? 0 : flk_stubs_original_of((unsigned)owner, function);
    if (!own) {
        s->counts->others++;
        return;
    }
    bool hooked = is_hooked(s, function);
    if (!hooked && !is_bound)
        return;  // the loader binds it in its own time
    if (!is_bound) {
        flk_slots_unbound_note(slot->word, *slot->word);
        s->counts->unbound++;
    }
    flk_via via = s->policy->is_traced ? FLK_VIA_TRACED : FLK_VIA_UNTRACED;
    uintptr_t before = flk_slots_unbound_value(slot->word);
    uintptr_t value = hooked   ? flk_stubs_at((unsigned)owner, function, via)
                      : before ? before
                               : own;
    s->counts->hooked +=
        flk_patch_word(s->patcher, slot->word, value) && hooked;
}

void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts) {
    setting s = {patcher, policy, counts, flk_providers_of(patcher->elf) >= 0};
    flk_elf_each_slot(patcher->elf, set_slot, &s);
}
#endif

// --- a small table ------------------------------------------------------
static struct {
    uint32_t count;
    struct {
        const uintptr_t *word;
        uintptr_t value;
    } slots[FLK_UNBOUND_MAX];
} unbound;

uintptr_t flk_slots_unbound_value(const uintptr_t *word) {
    for (uint32_t i = 0; i < unbound.count; i++)
        if (unbound.slots[i].word == word)
            return unbound.slots[i].value;
    return 0;
}

void flk_slots_unbound_note(const uintptr_t *word, uintptr_t value) {
    if (unbound.count == FLK_UNBOUND_MAX || flk_slots_unbound_value(word))
        return;
    unbound.slots[unbound.count].word = word;
    unbound.slots[unbound.count++].value = value;
}

void flk_slots_unbound_clear(void) { unbound.count = 0; }
