// flk_attach.c - rounds over all loaded objects. Contract: flk_attach.h.     SPDX-License-Identifier: MIT
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "flk_attach.h"

#include <string.h>

#include "flk_platform.h"

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
#include <link.h>

#include "flk_callers.h"
#include "flk_choice.h"
#include "flk_config.h"
#include "flk_definers.h"
#include "flk_hook.h"
#include "flk_loader.h"
#include "flk_slots.h"
#include "flk_tracker.h"

// A slot that was unbound when patched may be bound late, by a thread that
// had looked the function up before the exports were patched: refresh looks
// again until so much time has gone by.
enum { LATE_BINDING_NS = 1000000000 };

static struct {
    flk_lock lock;  // guards the rest
    bool is_attached, with_mappings, has_no_room;
    uint64_t adds, subs;  // of the loader, at the last round
    uint64_t unbound_at;  // when one was met, else 0
    flk_attach_figures figures;
} attach = {.lock = FLK_LOCK_INIT(FLK_RANK_ATTACH)};

// --- objects -----------------------------------------------------------
static const char *path_of(const struct dl_phdr_info *info) {
    return info->dlpi_name && info->dlpi_name[0] ? info->dlpi_name
                                                 : flk_loader_program();
}

// The loader allocates for itself only, and we do not watch ourselves.
static bool is_left_alone(const flk_elf *elf) {
    uintptr_t here = flk_hook_stub(0, FLK_FN_MALLOC, FLK_VIA_ASKED);
    return elf->base == flk_loader_base() || flk_elf_holds(elf, here, 1);
}

static bool open_object(flk_elf *out, const struct dl_phdr_info *info) {
    return flk_elf_open(out, info->dlpi_addr, info->dlpi_phdr,
                        info->dlpi_phnum);
}

static bool is_asked(const flk_elf *elf, const struct dl_phdr_info *info) {
    return flk_definers_of(elf) >= 0 ? flk_choice_names(path_of(info))
                                     : flk_choice_has(path_of(info));
}

// --- rounds ------------------------------------------------------------
// First: who defines allocators, and whose code lies where.
static int collect(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    flk_elf elf;
    attach.adds = info->dlpi_adds;
    attach.subs = info->dlpi_subs;
    if (!open_object(&elf, info))
        return 0;
    bool is_alone = is_left_alone(&elf);
    int definer = elf.base == flk_loader_base() ? FLK_DEFINER_NONE
                                                 : flk_definers_see(&elf);
    attach.has_no_room |= definer == FLK_DEFINER_NO_ROOM;
    bool asked = !is_alone && is_asked(&elf, info);
    if (definer >= 0)
        flk_hook_ask_definer((unsigned)definer, asked);
    flk_callers_add(elf.whole.begin, elf.whole.end, asked);
    attach.figures.objects++;
    attach.figures.objects_asked += asked;
    return 0;
}

// Second: what is looked up from now on is a hook (or is none again).
static int patch_exports(struct dl_phdr_info *info, size_t size,
                         void *unused) {
    (void)size;
    (void)unused;
    flk_elf elf;
    if (!open_object(&elf, info))
        return 0;
    int definer = flk_definers_of(&elf);
    flk_patcher patcher = {.elf = &elf};
    if (definer >= 0)
        flk_definers_patch(&patcher, definer, attach.is_attached,
                           attach.with_mappings);
    attach.figures.failed_words += patcher.failed;
    return 0;
}

typedef struct pass {
    uint32_t changed;
    flk_slots_counts counts;
} pass;

// Third, until one pass changes nothing: what was looked up before.
static int patch_slots(struct dl_phdr_info *info, size_t size,
                       void *context) {
    (void)size;
    pass *p = context;
    flk_elf elf;
    if (!open_object(&elf, info) || is_left_alone(&elf))
        return 0;
    flk_patcher patcher = {.elf = &elf};
    flk_slots_policy policy = {attach.is_attached, is_asked(&elf, info),
                               attach.with_mappings};
    flk_slots_set(&patcher, &policy, &p->counts);
    p->changed += patcher.changed;
    attach.figures.failed_words += patcher.failed;
    return 0;
}

static void collect_all(void) {
    attach.figures.objects = attach.figures.objects_asked = 0;
    attach.has_no_room = false;
    flk_callers_begin();
    flk_definers_begin();
    dl_iterate_phdr(collect, NULL);
    flk_definers_end();
    flk_callers_end();
    attach.figures.definers = flk_definers_count();
}

static void patch_all(void) {
    dl_iterate_phdr(patch_exports, NULL);
    pass p;
    int left = FLK_PATCH_PASSES_MAX;
    do {
        p = (pass){.changed = 0};
        dl_iterate_phdr(patch_slots, &p);
        attach.figures.passes++;
        attach.figures.unbound_slots += p.counts.unbound;
        if (p.counts.unbound)
            attach.unbound_at = flk_clock_coarse();
    } while (p.changed > 0 && --left > 0);
    attach.figures.slots = p.counts.hooked;
    attach.figures.others_slots = p.counts.others;
}

// --- fork --------------------------------------------------------------
// Ours is registered last, so its prepare comes first: from then until our
// part of the parent's or the child's half is done the tracker's locks are
// or may be held by this thread, and its events wait.
static void before_fork(void) {
    flk_lock_take(&attach.lock);
    flk_hook_fork_begins();
}

static void after_fork(void) {
    flk_hook_fork_ends();
    flk_lock_release(&attach.lock);
}

static void take_look_ups(const uintptr_t *addresses) {
    for (int i = 0; i < FLK_FN_COUNT; i++)
        flk_definers_looked_up((flk_function)i, addresses[i]);
}

// --- the four ----------------------------------------------------------
static bool begin_held(const flk_attach_options *o, const char **reason) {
    if (!flk_choice_set(o->include, o->include_count, o->exclude,
                        o->exclude_count))
        *reason = "the patterns are too long";
    else if (!flk_hook_init())
        *reason = "no memory left for the tracker";
    if (*reason)
        return false;
    flk_loader_read_program();
    collect_all();
    if (flk_definers_default(FLK_FN_MALLOC) < 0)
        *reason = "no loaded object exports malloc (static C library?)";
    else if (attach.has_no_room)
        *reason = "more than 4 loaded objects define an allocator";
    if (*reason)
        return false;
    attach.is_attached = true;
    attach.with_mappings = o->with_mappings != 0;
    atomic_store(&flk_tracker_settings.ever_enabled, true);
    if (flk_hook_state() == FLK_HOOKS_OFF)
        flk_hook_set_state(FLK_HOOKS_ON);
    patch_all();
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
    flk_at_fork(before_fork, after_fork, after_fork);
    flk_loader_keep_us();
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    take_look_ups(addresses);
    bool done = begin_held(options, &against);
    flk_lock_release(&attach.lock);
    return done ? 0 : refuse(reason, reason_bytes, against);
}

static int has_moved(struct dl_phdr_info *info, size_t size, void *moved) {
    (void)size;
    *(bool *)moved = info->dlpi_adds != attach.adds ||
                     info->dlpi_subs != attach.subs;
    return 1;
}

void flk_attach_refresh(void) {
    uintptr_t addresses[FLK_FN_COUNT];
    bool must = false;
    flk_lock_take(&attach.lock);
    if (attach.is_attached)
        dl_iterate_phdr(has_moved, &must);
    uint64_t unbound_at = attach.unbound_at;
    must |= attach.is_attached && unbound_at != 0;
    flk_lock_release(&attach.lock);
    if (!must)
        return;
    flk_loader_look_up(addresses);
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        if (unbound_at == attach.unbound_at &&
            flk_clock_coarse() - unbound_at > LATE_BINDING_NS)
            attach.unbound_at = 0;
        take_look_ups(addresses);
        collect_all();
        patch_all();
    }
    flk_lock_release(&attach.lock);
}

void flk_attach_pause(int is_paused) {
    flk_lock_take(&attach.lock);
    if (attach.is_attached)
        flk_hook_set_state(is_paused ? FLK_HOOKS_PAUSED : FLK_HOOKS_ON);
    flk_lock_release(&attach.lock);
}

void flk_attach_end(void) {
    flk_lock_take(&attach.lock);
    if (attach.is_attached) {
        flk_hook_set_state(FLK_HOOKS_PAUSED);
        attach.is_attached = false;
        collect_all();
        patch_all();
        flk_hook_set_state(FLK_HOOKS_OFF);
    }
    flk_lock_release(&attach.lock);
}

// --- figures -----------------------------------------------------------
void flk_attach_read(flk_attach_figures *out) {
    flk_lock_take(&attach.lock);
    *out = attach.figures;
    out->attached = attach.is_attached;
    out->paused = attach.is_attached &&
                  flk_hook_state() == FLK_HOOKS_PAUSED;
    flk_lock_release(&attach.lock);
    out->foreign_frees = flk_hook_counted(FLK_HOOK_FOREIGN_FREES);
    out->mismatched_frees = flk_hook_counted(FLK_HOOK_MISMATCHED_FREES);
    out->reentered = flk_hook_counted(FLK_HOOK_REENTERED);
    out->lost_in_fork = flk_hook_counted(FLK_HOOK_LOST_IN_FORK);
    out->unknown_callers = flk_hook_counted(FLK_HOOK_UNKNOWN_CALLERS);
}

void flk_attach_clear_counts(void) { flk_hook_clear_counts(); }

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
void flk_attach_read(flk_attach_figures *out) {
    *out = (flk_attach_figures){.attached = 0};
}
void flk_attach_clear_counts(void) {}
#endif
