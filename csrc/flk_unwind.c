// flk_unwind.c - rules, steps and trails. Contract: flk_unwind.h.            SPDX-License-Identifier: MIT
#include "flk_unwind.h"

#include "flk_callpath.h"
#include "flk_hash.h"
#include "flk_platform.h"

#ifdef FLK_HAS_ELF
#include "flk_modules.h"
#include "flk_unwind_gcc.h"
#include "flk_unwind_step.h"

typedef enum kind {
    SHOWN,  // a frame of a path
    OWN,    // of this module: left out
    EDGE,   // of the Python runtime: the last one, left out
} kind;

// All that is known of an address. It is one inside of the instruction that
// is being run, so that the end of a function is not the start of the next.
typedef struct rule {
    uintptr_t address;  // 0 = empty
    flk_cfi_rule how;
    uint32_t site;      // SHOWN only
    uint8_t kind;
    bool is_understood;
} rule;

// One caller found: by which rule, and where it returned to.
typedef struct trail_step {
    uintptr_t returns_to;
    flk_cfi_rule how;
} trail_step;

typedef struct trail {
    uintptr_t pc;    // where it begins; 0 = empty
    uint32_t base, depth, path;
    uint32_t count;  // of steps
    trail_step steps[FLK_NATIVE_STEPS_MAX];
} trail;

static atomic_ullong gcc_count;  // relaxed: a figure

struct flk_native {
    uint64_t epoch;   // of the loader: what is kept was learned in it
    trail last;       // as walked; count 0: not to be remembered
    trail trails[FLK_NATIVE_TRAILS];
    rule rules[FLK_NATIVE_RULES];
};

static size_t native_bytes(void) {
    size_t page = flk_page_bytes();
    return (sizeof(flk_native) + page - 1) & ~(page - 1);
}

flk_native *flk_native_new(void) {
    return flk_pages_map(native_bytes(), flk_page_bytes());
}

void flk_native_free(flk_native *native) {
    if (native)
        flk_pages_unmap(native, native_bytes());
}

void flk_unwind_start(void) {
    flk_modules_start();
    flk_loaded_start();
    flk_unwind_gcc_warm_up();
}

// Something was loaded: maybe where something else was before. The pages
// read zero again.
static void keep_up(flk_native *native) {
    uint64_t epoch = flk_loaded_epoch();
    if (FLK_LIKELY(native->epoch == epoch))
        return;
    flk_pages_forget(native, native_bytes());
    native->epoch = epoch;
}

// --- rules -------------------------------------------------------------
static void learn(rule *out, uintptr_t address) {
    flk_loaded loaded;
    uint32_t id = flk_modules_at(address, &loaded);
    const flk_module *module = flk_modules_get(id);
    *out = (rule){.address = address};
    if (module && module->flags)
        out->kind = module->flags & FLK_MODULE_OWN ? OWN : EDGE;
    else
        out->site = flk_modules_site(id, address);
    out->is_understood = loaded.header &&
                         flk_cfi_find(loaded.header, loaded.begin,
                                      loaded.end, address, &out->how);
}

// One that could not be entered (no memory) is learned again next time.
static const rule *rule_at(flk_native *native, uintptr_t address) {
    size_t i = flk_hash_key(address) >> 32 & (FLK_NATIVE_RULES - 1);
    rule *found = &native->rules[i];
    if (FLK_UNLIKELY(found->address != address ||
                     (found->kind == SHOWN && !found->site)))
        learn(found, address);
    return found;
}

// --- a walk by rules ---------------------------------------------------
typedef struct walk {
    flk_native *native;
    uintptr_t address, limit;  // inside the instruction; end of the stack
    flk_registers at;
    uint32_t *sites;
    size_t count, depth;
    bool has_no_memory;
} walk;

// Takes the frame there; true: it is the last one.
static bool take(walk *w, const rule *found) {
    if (found->kind == SHOWN) {
        w->has_no_memory |= found->site == 0;
        w->sites[w->count++] = found->site;
    }
    return found->kind == EDGE || w->count == w->depth;
}

static void note(trail *t, const rule *found, uintptr_t returns_to) {
    t->steps[t->count++] = (trail_step){returns_to, found->how};
}

// False: it ends where something is not understood.
static bool walk_by_rules(walk *w) {
    trail *t = &w->native->last;
    for (;;) {
        const rule *found = rule_at(w->native, w->address);
        if (take(w, found) ||
            (found->is_understood && found->how.flags & FLK_CFI_END))
            return true;
        if (t->count == FLK_NATIVE_STEPS_MAX || !found->is_understood ||
            !flk_step_is_sound(&found->how, &w->at, w->limit))
            return false;
        flk_step(&found->how, &w->at);
        note(t, found, w->at.pc);
        if (!w->at.pc)
            return true;
        w->address = w->at.pc - !(found->how.flags & FLK_CFI_SIGNAL);
        if (found->how.flags & FLK_CFI_SIGNAL)
            w->limit = UINTPTR_MAX;
    }
}

// --- a walk by libgcc --------------------------------------------------
static bool take_address(uintptr_t address, void *context) {
    walk *w = context;
    return !take(w, rule_at(w->native, address));
}

// The stack of a thread ends below what pthread_self() names; that of the
// first thread, and those that programs make for themselves, at the latest
// where addresses do.
static uintptr_t limit_of(const flk_registers *at) {
    uintptr_t self = (uintptr_t)flk_thread_ident();
    return self > at->sp ? self : UINTPTR_MAX;
}

size_t flk_unwind_walk(flk_native *native, const flk_wanted *wanted,
                       uint32_t *sites) {
    FLK_ASSERT(wanted->depth > 0 && wanted->depth <= FLK_NATIVE_FRAMES_MAX);
    walk w = {.native = native, .address = wanted->at.pc,
              .limit = limit_of(&wanted->at), .at = wanted->at,
              .sites = sites, .depth = wanted->depth};
    keep_up(native);
    native->last.count = 0;
    if (!walk_by_rules(&w)) {
        native->last.count = 0;
        w.count = 0;
        atomic_fetch_add_explicit(&gcc_count, 1, memory_order_relaxed);
        flk_unwind_gcc(take_address, &w);
    }
    return w.has_no_memory ? FLK_UNWIND_NO_MEMORY : w.count;
}

uint64_t flk_unwind_gcc_count(void) { return atomic_load(&gcc_count); }

// --- trails ------------------------------------------------------------
static trail *trail_of(flk_native *native, const flk_wanted *wanted) {
    uint64_t key = (uintptr_t)wanted->caller * UINT64_C(0xBF58476D1CE4E5B9) +
                   wanted->at.sp * UINT64_C(0x94D049BB133111EB) +
                   wanted->base;
    return &native->trails[flk_hash_key(key) >> 32 & (FLK_NATIVE_TRAILS - 1)];
}

// Each step stands on the one before it: as long as all return addresses
// are those of the trail its rules are the right ones for this stack.
static FLK_READS_STACKS bool leads_along(const trail *t, flk_registers at) {
    for (uint32_t i = 0; i < t->count; i++) {
        flk_step(&t->steps[i].how, &at);
        if (at.pc != t->steps[i].returns_to)
            return false;
    }
    return true;
}

uint32_t flk_unwind_recall(flk_native *native, const flk_wanted *wanted) {
    keep_up(native);
    const trail *t = trail_of(native, wanted);
    if (t->pc != wanted->at.pc || t->base != wanted->base ||
        t->depth != wanted->depth || !leads_along(t, wanted->at))
        return FLK_PATH_NONE;
    return t->path;
}

void flk_unwind_remember(flk_native *native, const flk_wanted *wanted,
                         uint32_t path) {
    const trail *last = &native->last;
    trail *t = trail_of(native, wanted);
    if (last->count == 0)
        return;
    t->pc = wanted->at.pc;
    t->base = wanted->base;
    t->depth = wanted->depth;
    t->path = path;
    t->count = last->count;
    for (uint32_t i = 0; i < last->count; i++)
        t->steps[i] = last->steps[i];
}

bool flk_native_check(const flk_native *native) {
    for (size_t i = 0; i < FLK_NATIVE_RULES; i++) {
        const rule *one = &native->rules[i];
        if (one->address &&
            ((flk_hash_key(one->address) >> 32 & (FLK_NATIVE_RULES - 1)) != i ||
             (one->kind != SHOWN && one->site)))
            return false;
    }
    for (size_t i = 0; i < FLK_NATIVE_TRAILS; i++) {
        const trail *t = &native->trails[i];
        if (t->count > FLK_NATIVE_STEPS_MAX || (t->pc && !t->count))
            return false;
    }
    return true;
}
#else
void flk_unwind_start(void) {}
void flk_native_free(flk_native *native) { (void)native; }
#endif
