// slots.c - from what a slot holds to what it is to hold. Contract: hooks/slots.h.  SPDX-License-Identifier: MIT
#include "hooks/slots.h"

#ifdef FLK_HAS_ELF
#include <stdatomic.h>

#include "base/config.h"
#include "hooks/providers.h"
#include "hooks/stubs.h"

// All tables of this file: under FLK_RANK_ATTACH, so consistent in the child
// of a fork.

// --- unbound slots -------------------------------------------------------
static struct {
    uint32_t count;
    struct {
        const uintptr_t *word;
        uintptr_t value;
    } slots[FLK_UNBOUND_MAX];
} unbound;

uintptr_t flk_slots_unbound_value(const uintptr_t *word) {
    FLK_ASSERT(word != NULL);
    for (uint32_t i = 0; i < unbound.count; i++)
        if (unbound.slots[i].word == word)
            return unbound.slots[i].value;
    return 0;
}

void flk_slots_unbound_note(const uintptr_t *word, uintptr_t value) {
    FLK_ASSERT(unbound.count <= FLK_UNBOUND_MAX);
    if (unbound.count == FLK_UNBOUND_MAX || flk_slots_unbound_value(word))
        return;
    unbound.slots[unbound.count].word = word;
    unbound.slots[unbound.count++].value = value;
}

void flk_slots_unbound_clear(void) { unbound.count = 0; }

// --- watched slots -------------------------------------------------------
static struct {
    uint32_t count;
    struct {
        const uintptr_t *word;
        uintptr_t value;
        bool is_ours;  // it held a stub, and was not unbound before
    } slots[FLK_WATCHED_SLOTS_MAX];
} watched;

void flk_slots_watch_clear(void) { watched.count = 0; }

static uintptr_t read_slot(const uintptr_t *word) {
    FLK_ASSERT((uintptr_t)word % sizeof *word == 0);
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void watch(const uintptr_t *word, bool is_ours,
                  flk_slots_counts *counts) {
    FLK_ASSERT(watched.count <= FLK_WATCHED_SLOTS_MAX);
    if (watched.count == FLK_WATCHED_SLOTS_MAX) {
        counts->unwatched++;
        return;
    }
    uint32_t i = watched.count++;
    watched.slots[i].word = word;
    watched.slots[i].value = read_slot(word);
    watched.slots[i].is_ours = is_ours;
}

bool flk_slots_have_changed(void) {
    FLK_ASSERT(watched.count <= FLK_WATCHED_SLOTS_MAX);
    for (uint32_t i = 0; i < watched.count; i++)
        if (read_slot(watched.slots[i].word) != watched.slots[i].value)
            return true;
    return false;
}

uint32_t flk_slots_count_retaken(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < watched.count; i++)
        count += watched.slots[i].is_ours &&
                 read_slot(watched.slots[i].word) != watched.slots[i].value;
    return count;
}

// --- late objects --------------------------------------------------------
static atomic_bool were_late[FLK_FN_COUNT];  // relaxed; read by hooks

void flk_slots_late_clear(void) {
    for (int i = 0; i < FLK_FN_COUNT; i++)
        atomic_store_explicit(&were_late[i], false, memory_order_relaxed);
}

bool flk_slots_were_late(flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return atomic_load_explicit(&were_late[function], memory_order_relaxed);
}

// --- one slot ------------------------------------------------------------
typedef struct setting {
    flk_patcher *patcher;
    const flk_slots_policy *policy;
    flk_slots_counts *counts;
} setting;

// The interpreter's slots of its own allocators. An unbound one would be bound
// to the exported stub, which takes the interpreter for a caller by pointer.
static bool keeps_original(const flk_slots_policy *policy,
                           flk_function function) {
    return policy->is_hooked && !policy->with_python &&
           flk_functions_is_of_python(function);
}

static void note_late(const setting *s, flk_function function, flk_via held) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    if (held == FLK_VIA_EXPORT && s->policy->via == FLK_VIA_TRACED &&
        !keeps_original(s->policy, function))
        atomic_store_explicit(&were_late[function], true, memory_order_relaxed);
}

// The provider whose function or stub the slot holds, or will hold once it is
// bound; FLK_PROVIDER_NONE: another tool's function.
static int owner_of(const setting *s, const flk_elf_slot *slot,
                    flk_function *function, bool *is_bound) {
    uintptr_t now = read_slot(slot->word);
    unsigned provider;
    flk_via via;
    *is_bound = true;
    if (flk_stubs_find(now, &provider, function, &via)) {
        note_late(s, *function, via);
        return (int)provider;
    }
    int owner = flk_providers_owner(*function, now);
    if (owner >= 0)
        return owner;
    // An unbound slot points to the linkage table of its own object or of the
    // program.
    *is_bound = !(slot->kind == FLK_ELF_JUMP_SLOT &&
                  flk_elf_is_code(s->patcher->elf, now)) &&
                !flk_providers_is_canonical(*function, now);
    return *is_bound ? FLK_PROVIDER_NONE
                     : flk_providers_default_of(*function, slot->name);
}

static bool is_release(flk_shape shape) {
    return shape == FLK_SHAPE_RELEASE || shape == FLK_SHAPE_RESIZE ||
           shape == FLK_SHAPE_CLOSE || shape == FLK_SHAPE_MAP ||
           shape == FLK_SHAPE_UNMAP || shape == FLK_SHAPE_REMAP;
}

// Releases are hooked in every object. An allocation that a provider makes
// through its own slot may build the result of a traced caller's call. A call
// of a traced provider's function marks the thread, whatever object makes it.
static bool is_to_be_hooked(const flk_slots_policy *policy, int owner,
                            flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    if (!policy->is_hooked ||
        (function >= FLK_FN_MMAP && !policy->with_mappings) ||
        (flk_functions_is_of_python(function) && !policy->with_python))
        return false;
    flk_shape shape = flk_functions_info[function].shape;
    bool is_marked = policy->is_provider ||
                     (owner >= 0 && flk_stub_table_flags_of((unsigned)owner) &
                                        FLK_PROVIDER_IS_TRACED);
    return policy->via != FLK_VIA_UNTRACED || is_release(shape) ||
           (is_marked &&
            (shape == FLK_SHAPE_ALLOCATE || shape == FLK_SHAPE_PLACE));
}

static bool is_of_malloc(const flk_elf_slot *slot, flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return slot->kind != FLK_ELF_ABSOLUTE &&
           (function == FLK_FN_MALLOC || function == FLK_FN_CALLOC ||
            function == FLK_FN_REALLOC || function == FLK_FN_FREE);
}

// Initialised data belongs to the program, which may put another function
// there. A slot of a linkage table is changed by tools only.
static void count_other(const setting *s, const flk_elf_slot *slot,
                        flk_function function) {
    if (slot->kind == FLK_ELF_ABSOLUTE)
        s->counts->changed_pointers++;
    else
        s->counts->others++;
    s->counts->malloc_others += is_of_malloc(slot, function);
}

uintptr_t flk_slots_value(const flk_slots_policy *policy, unsigned provider,
                          flk_function function) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT);
    if (!is_to_be_hooked(policy, (int)provider, function))
        return flk_stub_table_original_of(provider, function);
    return flk_stubs_at(provider, function,
                        function >= FLK_FN_MMAP ? policy->via_of_mappings
                                                : policy->via);
}

static uintptr_t value_of(const setting *s, const flk_elf_slot *slot,
                          unsigned provider, flk_function function,
                          bool is_needed) {
    uintptr_t before = is_needed ? 0 : flk_slots_unbound_value(slot->word);
    return before ? before : flk_slots_value(s->policy, provider, function);
}

static void set_slot(const flk_elf_slot *slot, void *context) {
    setting *s = context;
    flk_function function = flk_functions_named(slot->name);
    if (function == FLK_FN_COUNT)
        return;
    bool is_bound;
    int owner = owner_of(s, slot, &function, &is_bound);
    bool is_hooked = is_to_be_hooked(s->policy, owner, function);
    bool is_needed = is_hooked || keeps_original(s->policy, function);
    s->counts->malloc_slots += is_hooked && is_of_malloc(slot, function);
    bool is_known =
        owner >= 0 && flk_stub_table_original_of((unsigned)owner, function);
    if (is_known && (is_needed || is_bound)) {
        if (!is_bound) {
            flk_slots_unbound_note(slot->word, read_slot(slot->word));
            s->counts->unbound++;
        }
        uintptr_t value =
            value_of(s, slot, (unsigned)owner, function, is_needed);
        s->counts->hooked +=
            flk_patch_word(s->patcher, slot->word, value) && is_hooked;
    } else if (is_hooked && is_bound && read_slot(slot->word)) {
        count_other(s, slot, function);  // 0: a weak symbol without definition
    }
    bool is_ours = is_known && slot->kind != FLK_ELF_ABSOLUTE &&
                   !flk_slots_unbound_value(slot->word);
    if (is_hooked)
        watch(slot->word, is_ours, s->counts);
}

void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts) {
    FLK_ASSERT(patcher->elf != NULL);
    setting s = {patcher, policy, counts};
    flk_elf_each_slot(patcher->elf, set_slot, &s);
}
#endif
