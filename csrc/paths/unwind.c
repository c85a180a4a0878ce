// unwind.c - rules of addresses, and the walk by them. Contract: paths/unwind.h. SPDX-License-Identifier: MIT
#include "paths/unwind.h"

#include <unwind.h>

#include "base/hash.h"
#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include "paths/call_tree_cache.h"
#include "paths/modules.h"

typedef enum kind {
    SHOWN,  // part of the path
    OWN,    // a function of this module: left out
    EDGE,   // a function of the Python runtime: left out, and the end
} kind;

// What is known of an address. The address lies inside the executing
// instruction: a return address may be the beginning of the next function.
typedef struct rule {
    uintptr_t address;  // 0 = empty
    flk_cfi_rule how;
    uint32_t site;  // SHOWN only
    uint8_t kind;
    bool is_understood;
    uint8_t judged;  // by a caller of flk_unwind_find, with this stamp
    uint32_t stamp;
} rule;

struct flk_native {
    uint64_t epoch;        // of the loader, in which all this was learned
    uint32_t depth;        // of the paths in `cache`
    uint32_t trail_count;  // 0: the last walk is not to be remembered
    flk_call_tree_step trail[FLK_NATIVE_STEPS_MAX];  // of the last walk
    flk_call_tree_cache cache;
    rule rules[FLK_NATIVE_RULES];
};

static atomic_ullong gcc_count;  // relaxed: a figure

static size_t native_bytes(void) {
    return flk_platform_pages_for(sizeof(flk_native));
}

flk_native *flk_unwind_new(void) {
    return flk_platform_pages_map(native_bytes(), flk_platform_page_bytes());
}

void flk_unwind_free(flk_native *native) {
    if (native)
        flk_platform_pages_unmap(native, native_bytes());
}

void flk_unwind_start(void) {
    flk_modules_start();
    flk_loaded_start();
    flk_unwind_gcc_warm_up();
}

// Clears everything: the pages read zero afterwards.
static FLK_NOINLINE void forget(flk_native *native, uint64_t epoch,
                                uint32_t depth) {
    FLK_ASSERT(depth > 0 && depth <= FLK_NATIVE_FRAMES_MAX);
    flk_platform_pages_forget(native, native_bytes());
    native->epoch = epoch;
    native->depth = depth;
}

// Clears what was learned if an object was loaded since: it may be where another
// object was before.
static FLK_HOT void keep_up(flk_native *native, uint32_t depth) {
    FLK_ASSERT(native->trail_count <= FLK_NATIVE_STEPS_MAX);
    uint64_t epoch = flk_loaded_epoch();
    if (FLK_UNLIKELY(native->epoch != epoch || native->depth != depth ||
                     flk_call_tree_cache_is_full(&native->cache)))
        forget(native, epoch, depth);
}

// --- rules -------------------------------------------------------------
static void learn_rule(rule *out, uintptr_t address) {
    FLK_ASSERT(address != 0);
    flk_loaded loaded;
    uint32_t id = flk_modules_at(address, &loaded);
    const flk_module *module = flk_modules_get(id);
    *out = (rule){.address = address};
    if (module && module->flags)
        out->kind = module->flags & FLK_MODULE_OWN ? OWN : EDGE;
    else
        out->site = flk_modules_site(id, loaded.base, address);
    out->is_understood =
        loaded.header && flk_cfi_find(loaded.header, loaded.begin, loaded.end,
                                      address, &out->how);
}

// A rule without a site, because memory was short, is learned again.
static rule *rule_at(flk_native *native, uintptr_t address) {
    FLK_ASSERT(address != 0);
    size_t i = flk_hash_key(address) >> 32 & (FLK_NATIVE_RULES - 1);
    rule *found = &native->rules[i];
    if (FLK_UNLIKELY(found->address != address ||
                     (found->kind == SHOWN && !found->site)))
        learn_rule(found, address);
    return found;
}

// --- a walk by rules ---------------------------------------------------
typedef struct walk {
    flk_native *native;
    uintptr_t address, limit;  // inside the instruction; the stack's end
    flk_registers at;
    uint32_t *sites;
    size_t count, depth;
    bool has_no_memory;
} walk;

// Adds a frame to the path. True if it is the last one.
static bool take(walk *w, const rule *found) {
    FLK_ASSERT(w->count < w->depth);
    if (found->kind == SHOWN) {
        w->has_no_memory |= found->site == 0;
        w->sites[w->count++] = found->site;
    }
    return found->kind == EDGE || w->count == w->depth;
}

static void note(flk_native *n, const rule *found, uintptr_t returns_to) {
    FLK_ASSERT(n->trail_count < FLK_NATIVE_STEPS_MAX);
    n->trail[n->trail_count++] = (flk_call_tree_step){returns_to, found->how};
}

// False: a frame is not understood.
static bool walk_by_rules(walk *w) {
    FLK_ASSERT(w->native->trail_count == 0 && w->count == 0);
    for (;;) {
        const rule *found = rule_at(w->native, w->address);
        if (take(w, found) ||
            (found->is_understood && found->how.flags & FLK_CFI_END))
            return true;
        if (w->native->trail_count == FLK_NATIVE_STEPS_MAX ||
            !found->is_understood ||
            !flk_step_is_sound(&found->how, &w->at, w->limit))
            return false;
        flk_step(&found->how, &w->at);
        note(w->native, found, w->at.pc);
        if (!w->at.pc)
            return true;
        w->address = w->at.pc - !(found->how.flags & FLK_CFI_SIGNAL);
        if (found->how.flags & FLK_CFI_SIGNAL)
            w->limit = UINTPTR_MAX;
    }
}

// --- a walk by libgcc --------------------------------------------------
static bool take_address(uintptr_t address, void *context) {
    FLK_ASSERT(context != NULL);
    walk *w = context;
    return !take(w, rule_at(w->native, address));
}

// The stack of a thread ends below the thread descriptor, whose address is
// pthread_self(). For the stack of the first thread, and for stacks that a
// program allocates itself, the end of the address space is the only limit.
static uintptr_t limit_of(const flk_registers *at) {
    FLK_ASSERT(at->sp != 0);
    uintptr_t self = (uintptr_t)flk_platform_thread_ident();
    return self > at->sp ? self : UINTPTR_MAX;
}

size_t flk_unwind_walk(flk_native *native, const flk_wanted *wanted,
                       uint32_t *sites) {
    FLK_ASSERT(wanted->depth > 0 && wanted->depth <= FLK_NATIVE_FRAMES_MAX);
    walk w = {.native = native,
              .address = wanted->at.pc,
              .limit = limit_of(&wanted->at),
              .at = wanted->at,
              .sites = sites,
              .depth = wanted->depth};
    keep_up(native, wanted->depth);
    native->trail_count = 0;
    if (!walk_by_rules(&w)) {
        native->trail_count = 0;
        w.count = 0;
        if (flk_platform_stack_left() < FLK_LIBGCC_STACK_BYTES)
            return FLK_UNWIND_NO_STACK;
        atomic_fetch_add_explicit(&gcc_count, 1, memory_order_relaxed);
        flk_unwind_gcc(take_address, &w);
    }
    return w.has_no_memory ? FLK_UNWIND_NO_MEMORY : w.count;
}

// --- a search for a frame ----------------------------------------------
typedef struct search {
    flk_native *native;
    uint32_t stamp;
    flk_unwind_judge judge;
    uint8_t found;
} search;

static bool has_rule(const flk_native *native, uintptr_t address) {
    size_t i = flk_hash_key(address) >> 32 & (FLK_NATIVE_RULES - 1);
    return native->rules[i].address == address;
}

static uint8_t judged(const search *s, rule *one) {
    FLK_ASSERT(s->stamp != 0 && one->address != 0);
    if (FLK_UNLIKELY(one->stamp != s->stamp)) {
        one->judged = s->judge(one->address);
        one->stamp = s->stamp;
    }
    return one->judged;
}

// False: a frame is not understood.
static bool search_by_rules(search *s, flk_registers at) {
    uintptr_t address = at.pc, limit = limit_of(&at);
    for (int i = 0; i < FLK_NATIVE_STEPS_MAX; i++) {
        if (FLK_UNLIKELY(!has_rule(s->native, address)) &&
            flk_platform_stack_left() < FLK_NATIVE_STACK_BYTES)
            return true;
        rule *one = rule_at(s->native, address);
        s->found = judged(s, one);
        if (s->found || (one->is_understood && one->how.flags & FLK_CFI_END))
            return true;
        if (!one->is_understood || !flk_step_is_sound(&one->how, &at, limit))
            return false;
        flk_step(&one->how, &at);
        if (!at.pc)
            return true;
        address = at.pc - !(one->how.flags & FLK_CFI_SIGNAL);
        if (one->how.flags & FLK_CFI_SIGNAL)
            limit = UINTPTR_MAX;
    }
    return true;
}

static bool search_address(uintptr_t address, void *context) {
    search *s = context;
    s->found = s->judge(address);
    return !s->found;
}

uint8_t flk_unwind_find(flk_native *native, const flk_registers *from,
                        uint32_t stamp, flk_unwind_judge judge) {
    FLK_ASSERT(native && from && judge && stamp != 0);
    search s = {native, stamp, judge, 0};
    keep_up(native, native->depth ? native->depth : 1);
    if (!search_by_rules(&s, *from) &&
        flk_platform_stack_left() >= FLK_LIBGCC_STACK_BYTES) {
        atomic_fetch_add_explicit(&gcc_count, 1, memory_order_relaxed);
        flk_unwind_gcc(search_address, &s);
    }
    return s.found;
}

uint64_t flk_unwind_gcc_count(void) { return atomic_load(&gcc_count); }

// --- the cache of stacks -----------------------------------------------
uint32_t flk_unwind_recall(flk_native *native, const flk_wanted *wanted) {
    FLK_ASSERT(native && wanted->depth > 0);
    keep_up(native, wanted->depth);
    return flk_call_tree_cache_follow(&native->cache, &wanted->at,
                                      wanted->base);
}

void flk_unwind_remember(flk_native *native, const flk_wanted *wanted,
                         uint32_t path) {
    FLK_ASSERT(native->trail_count <= FLK_NATIVE_STEPS_MAX);
    if (native->trail_count > 0)
        flk_call_tree_cache_add(&native->cache, &wanted->at, wanted->base,
                                native->trail, native->trail_count, path);
}

// --- check -------------------------------------------------------------
static bool rule_is_sound(const flk_native *native, size_t i) {
    FLK_ASSERT(i < FLK_NATIVE_RULES);
    const rule *one = &native->rules[i];
    return !one->address ||
           ((flk_hash_key(one->address) >> 32 & (FLK_NATIVE_RULES - 1)) == i &&
            (one->kind == SHOWN || !one->site));
}

bool flk_unwind_check(const flk_native *native) {
    bool is_sound = native->trail_count <= FLK_NATIVE_STEPS_MAX;
    is_sound &= flk_call_tree_cache_check(&native->cache);
    for (size_t i = 0; i < FLK_NATIVE_RULES; i++)
        is_sound &= rule_is_sound(native, i);
    return is_sound;
}

// --- through _Unwind_Backtrace ------------------------------------------
typedef struct backtrace {
    flk_unwind_visitor visit;
    void *context;
} backtrace;

static _Unwind_Reason_Code take_frame(struct _Unwind_Context *frame,
                                      void *context) {
    const backtrace *w = context;
    int was_interrupted = 0;
    uintptr_t address = (uintptr_t)_Unwind_GetIPInfo(frame, &was_interrupted);
    if (!address)
        return _URC_END_OF_STACK;
    return w->visit(address - !was_interrupted, w->context) ? _URC_NO_REASON
                                                            : _URC_END_OF_STACK;
}

void flk_unwind_gcc(flk_unwind_visitor visit, void *context) {
    FLK_ASSERT(visit != NULL);
    backtrace w = {visit, context};
    _Unwind_Backtrace(take_frame, &w);
}

static bool continue_walk(uintptr_t address, void *context) {
    (void)address, (void)context;
    return true;
}

void flk_unwind_gcc_warm_up(void) { flk_unwind_gcc(continue_walk, NULL); }
#else
void flk_unwind_start(void) {}
void flk_unwind_free(flk_native *native) { (void)native; }
#endif
