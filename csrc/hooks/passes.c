// passes.c - callbacks for each loaded object. Contract: hooks/passes.h.     SPDX-License-Identifier: MIT
#include "hooks/passes.h"

#ifdef FLK_HAS_ELF
#include <link.h>
#include <string.h>

#include "base/config.h"
#include "elf/maps.h"
#include "hooks/callers.h"
#include "hooks/copies.h"
#include "hooks/late_objects.h"
#include "hooks/loader.h"
#include "hooks/providers.h"
#include "hooks/roles.h"
#include "hooks/selection.h"
#include "hooks/slots.h"
#include "hooks/stubs.h"

// Under FLK_RANK_ATTACH, so consistent in the child of a fork.
static struct {
    bool is_hooked, with_mappings;
    uint64_t adds, subs;                // the loader's counts at the last pass
    char absolute[FLK_PATH_BYTES_MAX];  // of the object that is compared
    flk_attach_figures figures;
} passes;

// --- objects -----------------------------------------------------------
static const char *path_of(const struct dl_phdr_info *info) {
    return info->dlpi_name && info->dlpi_name[0] ? info->dlpi_name
                                                 : flk_loader_program();
}

// The loader allocates for itself only. musl's loader is also its C library,
// which defines strdup.
static bool is_loader(const flk_elf *elf) {
    FLK_ASSERT(elf != NULL);
    return elf->base != 0 && elf->base == flk_loader_base() &&
           !flk_elf_defines(elf, "strdup");
}

static bool is_left_alone(const flk_elf *elf) {
    uintptr_t here = flk_stubs_at(0, FLK_FN_MALLOC, FLK_VIA_TRACED);
    FLK_ASSERT(elf->whole.begin < elf->whole.end);
    return is_loader(elf) || flk_elf_holds(elf, here, 1);
}

static bool open_object(flk_elf *out, const struct dl_phdr_info *info) {
    FLK_ASSERT(out != NULL && info != NULL);
    return flk_elf_open(out, info->dlpi_addr, info->dlpi_phdr,
                        info->dlpi_phnum);
}

// The loader keeps a relative path as it was given, and the working directory
// may have changed since.
static flk_selection_object selection_of(const flk_elf *elf,
                                         const struct dl_phdr_info *info) {
    flk_selection_object seen = flk_selection_object_at(path_of(info));
    bool is_relative = seen.path[0] != '/' && strchr(seen.path, '/');
    if (is_relative && flk_maps_path(elf->whole.begin, passes.absolute,
                                     sizeof passes.absolute))
        seen.absolute = passes.absolute;
    return seen;
}

// What an object is to the pass.
typedef struct object {
    flk_caller kind;
    int provider;
    bool is_c_library, is_runtime, is_named;
} object;

static object object_of(const flk_elf *elf, const struct dl_phdr_info *info) {
    flk_selection_object seen = selection_of(elf, info);
    object o = {.provider = flk_providers_of(elf)};
    if (is_left_alone(elf)) {
        o.kind = is_loader(elf) ? FLK_CALLER_UNTRACED_CXX : FLK_CALLER_PASSED;
        return o;
    }
    o.is_c_library = flk_elf_defines(elf, "__libc_start_main");
    o.is_runtime = !o.is_c_library && flk_roles_is_runtime(seen.path);
    o.is_named = flk_selection_names(&seen);
    o.kind = flk_roles_kind(&seen, o.is_c_library);
    return o;
}

// The route of calls by its own slots.
static flk_via via_of(const object *o) {
    FLK_ASSERT(o->kind != FLK_CALLER_UNKNOWN);
    if (o->is_runtime && o->kind != FLK_CALLER_UNTRACED)
        return FLK_VIA_RUNTIME;
    if (o->kind != FLK_CALLER_TRACED)
        return FLK_VIA_UNTRACED;
    return o->is_c_library ? FLK_VIA_RUNTIME : FLK_VIA_TRACED;
}

// An allocator maps memory for all its callers, unlike for itself.
static flk_via via_of_mappings(const object *o, const flk_elf *elf) {
    flk_via via = via_of(o);
    return !o->is_named && flk_elf_defines(elf, "malloc") ? FLK_VIA_UNTRACED
                                                          : via;
}

// What the interpreter and the modules that come with it take from its
// allocators is its own, unless a pattern names the module.
static bool takes_from_python(const object *o, const flk_elf *elf,
                              const char *path) {
    return !flk_providers_is_python(elf) &&
           (o->is_named || !strstr(path, "/lib-dynload/"));
}

static void note_runtime(const char *name, void *is_linked) {
    *(bool *)is_linked |= flk_roles_is_runtime(name);
}

// A plugin may leave it to the program to load the runtime. What exports a
// runtime of its own may be bound to a shared one all the same.
static bool is_linked_to_runtime(const flk_elf *elf) {
    bool is_linked = false;
    flk_elf_each_needed(elf, note_runtime, &is_linked);
    return is_linked || flk_elf_mentions(elf, "__gxx_personality_v0") ||
           flk_elf_mentions(elf, "_ZNSt") || flk_elf_mentions(elf, "_ZSt");
}

// --- collecting ----------------------------------------------------------
// First the providers. Many libraries may contain a C++ runtime of their own;
// some of those may be left out.
static int see_provider(struct dl_phdr_info *info, size_t size,
                        void *of_malloc) {
    (void)size;
    flk_elf elf;
    FLK_ASSERT(of_malloc != NULL);
    if (!open_object(&elf, info) || is_loader(&elf))
        return 0;
    int provider = flk_providers_see(&elf, *(bool *)of_malloc);
    passes.figures.providers_left_out +=
        provider == FLK_PROVIDER_NO_ROOM && *(bool *)of_malloc;
    return 0;
}

// Counts of the loader; the first object's entry has them, too.
static void note_counts(const struct dl_phdr_info *info) {
    FLK_ASSERT(info->dlpi_adds >= info->dlpi_subs);
    if (passes.subs != info->dlpi_subs) {
        flk_slots_unbound_clear();
        flk_slots_watch_clear();
    }
    passes.adds = info->dlpi_adds;
    passes.subs = info->dlpi_subs;
}

static int count_retaken(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    note_counts(info);
    passes.figures.retaken_slots += flk_slots_count_retaken();
    return 1;
}

// Whether an object has slots of allocating functions.
static void note_allocating(const flk_elf_slot *slot, void *allocates) {
    flk_function function = flk_functions_named(slot->name);
    if (function == FLK_FN_COUNT)
        return;
    flk_shape shape = flk_functions_info[function].shape;
    *(bool *)allocates |= shape == FLK_SHAPE_ALLOCATE ||
                          shape == FLK_SHAPE_PLACE || shape == FLK_SHAPE_RESIZE;
}

// The functions of the C library do not allocate by its slots, but for those
// that return a block.
static unsigned flags_of(const object *o, const flk_elf *elf) {
    FLK_ASSERT(o->provider >= 0);
    bool allocates = false;
    if (!o->is_c_library)
        flk_elf_each_slot(elf, note_allocating, &allocates);
    flk_via via = via_of(o);
    return (allocates && via != FLK_VIA_UNTRACED ? FLK_PROVIDER_CALLS_INNER
                                                 : 0u) |
           (allocates && via == FLK_VIA_TRACED ? FLK_PROVIDER_IS_TRACED : 0u) |
           (o->is_named ? FLK_PROVIDER_IS_NAMED : 0u) |
           (o->is_c_library ? FLK_PROVIDER_IS_C_LIBRARY : 0u);
}

// Then the address ranges of all objects, and their kinds.
static int collect(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    bool *has_traced_cxx = context;
    flk_elf elf;
    note_counts(info);
    if (!open_object(&elf, info))
        return 0;
    object o = object_of(&elf, info);
    flk_selection_object seen = selection_of(&elf, info);
    if (!is_left_alone(&elf))
        flk_selection_meet(&seen);
    bool is_cxx =
        (o.kind == FLK_CALLER_TRACED || o.kind == FLK_CALLER_UNTRACED) &&
        !o.is_runtime && is_linked_to_runtime(&elf);
    if (is_cxx && o.kind == FLK_CALLER_UNTRACED)
        o.kind = FLK_CALLER_UNTRACED_CXX;
    *has_traced_cxx |= is_cxx && o.kind == FLK_CALLER_TRACED;
    if (o.provider >= 0)
        flk_stub_table_set_flags((unsigned)o.provider, flags_of(&o, &elf));
    flk_callers_add(elf.whole.begin, elf.whole.end, o.kind);
    passes.figures.objects++;
    passes.figures.objects_traced += o.kind == FLK_CALLER_TRACED;
    passes.figures.ever_traced |= o.kind == FLK_CALLER_TRACED;
    return 0;
}

bool flk_passes_collect(void) {
    flk_late_objects_seen();
    passes.figures.objects = passes.figures.objects_traced = 0;
    passes.figures.providers_left_out = 0;
    bool yes = true, no = false;
    dl_iterate_phdr(count_retaken, NULL);
    flk_providers_begin();
    dl_iterate_phdr(see_provider, &yes);
    dl_iterate_phdr(see_provider, &no);
    flk_providers_end();
    bool has_traced_cxx = false;
    flk_callers_begin();
    dl_iterate_phdr(collect, &has_traced_cxx);
    flk_callers_end(has_traced_cxx);
    FLK_ASSERT(passes.figures.objects_traced <= passes.figures.objects);
    passes.figures.providers = flk_providers_count();
    passes.figures.objects_left_out = flk_callers_left_out();
    return passes.figures.providers_left_out == 0;
}

// --- patching ------------------------------------------------------------
// Exports first: what is looked up from now on is a stub, or no longer one.
static int patch_exports(struct dl_phdr_info *info, size_t size,
                         void *is_program) {
    (void)size;
    FLK_ASSERT(is_program != NULL);
    bool is_first = *(bool *)is_program;
    *(bool *)is_program = false;
    flk_elf elf;
    if (!open_object(&elf, info))
        return 0;
    flk_patcher patcher = {.elf = &elf};
    if (is_first)
        flk_providers_patch_program(&patcher, passes.is_hooked,
                                    passes.with_mappings);
    int provider = flk_providers_of(&elf);
    if (provider >= 0)
        flk_providers_patch(&patcher, provider, passes.is_hooked,
                            passes.with_mappings);
    if (flk_providers_is_python(&elf))
        flk_providers_patch_python(&patcher, passes.is_hooked);
    passes.figures.failed_words += patcher.failed;
    return 0;
}

typedef struct slot_pass {
    uint32_t changed;
    flk_slots_counts counts;
} slot_pass;

static flk_slots_policy policy_of(const object *o, const flk_elf *elf,
                                  const struct dl_phdr_info *info) {
    return (flk_slots_policy){.is_hooked = passes.is_hooked,
                              .with_mappings = passes.with_mappings,
                              .via = via_of(o),
                              .via_of_mappings = via_of_mappings(o, elf),
                              .is_provider = o->provider >= 0,
                              .with_python =
                                  takes_from_python(o, elf, path_of(info))};
}

static int patch_slots(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    slot_pass *p = context;
    flk_elf elf;
    FLK_ASSERT(p != NULL);
    if (!open_object(&elf, info) || is_left_alone(&elf))
        return 0;
    flk_patcher patcher = {.elf = &elf};
    object o = object_of(&elf, info);
    flk_slots_policy policy = policy_of(&o, &elf, info);
    flk_slots_set(&patcher, &policy, &p->counts);
    p->changed += patcher.changed;
    passes.figures.failed_words += patcher.failed;
    return 0;
}

static slot_pass pass_over_slots(void) {
    slot_pass p = {.changed = 0};
    flk_slots_watch_clear();
    dl_iterate_phdr(patch_slots, &p);
    passes.figures.passes++;
    passes.figures.unbound_slots += p.counts.unbound;
    return p;
}

static void keep_counts(const flk_slots_counts *counts) {
    FLK_ASSERT(counts->malloc_others <= counts->malloc_slots);
    passes.figures.slots = counts->hooked;
    passes.figures.others_slots = counts->others;
    passes.figures.malloc_slots = counts->malloc_slots;
    passes.figures.malloc_slots_others = counts->malloc_others;
    passes.figures.changed_pointers = counts->changed_pointers;
    passes.figures.unwatched_slots = counts->unwatched;
}

void flk_passes_patch(bool is_hooked, bool with_mappings) {
    passes.is_hooked = is_hooked;
    passes.with_mappings = with_mappings;
    bool is_program = true;
    dl_iterate_phdr(patch_exports, &is_program);
    flk_slots_late_clear();
    slot_pass p = pass_over_slots();
    for (int i = 1; i < FLK_PATCH_PASSES_MAX && p.changed > 0; i++)
        p = pass_over_slots();
    keep_counts(&p.counts);
    passes.figures.unsettled_slots = p.changed;
    if (!is_hooked)
        flk_slots_unbound_clear();
}

// --- copied pointers -----------------------------------------------------
// What an allocator copies is what it calls inside; what the C library holds is
// its own.
static int add_copies(struct dl_phdr_info *info, size_t size, void *subs) {
    (void)size;
    flk_elf elf;
    *(uint64_t *)subs = info->dlpi_subs;
    if (!open_object(&elf, info) || is_left_alone(&elf))
        return 0;
    object o = object_of(&elf, info);
    flk_slots_policy policy = policy_of(&o, &elf, info);
    if (!o.is_c_library && !flk_elf_defines(&elf, "malloc"))
        flk_copies_add(&elf, &policy);
    return 0;
}

typedef struct copy_pass {
    uint64_t subs;
    bool is_done;
} copy_pass;

// No object is unloaded inside dl_iterate_phdr.
static int set_copies(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    copy_pass *p = context;
    p->is_done = info->dlpi_subs == p->subs;
    if (p->is_done) {
        flk_copies_counts counts = flk_copies_set();
        passes.figures.copied_pointers += counts.hooked;
        passes.figures.unsearched_ranges = counts.left_out;
    }
    return 1;
}

void flk_passes_patch_copies(void) {
    enum { TRIES = 10 };
    copy_pass p = {.is_done = false};
    for (int i = 0; i < TRIES && !p.is_done; i++) {
        flk_copies_begin();
        dl_iterate_phdr(add_copies, &p.subs);
        dl_iterate_phdr(set_copies, &p);
    }
}

// --- is a pass due? ------------------------------------------------------
// No object can be unloaded inside dl_iterate_phdr, so if none has been
// unloaded since the last pass, all watched slots can be read.
static int has_moved(struct dl_phdr_info *info, size_t size, void *moved) {
    (void)size;
    *(bool *)moved = info->dlpi_adds != passes.adds ||
                     info->dlpi_subs != passes.subs || flk_slots_have_changed();
    return 1;
}

bool flk_passes_are_due(void) {
    bool moved = false;
    dl_iterate_phdr(has_moved, &moved);
    return moved;
}

void flk_passes_begin_session(void) { passes.figures.retaken_slots = 0; }

void flk_passes_select_anew(void) { passes.figures.ever_traced = 0; }

// --- a list of objects ---------------------------------------------------
typedef struct list {
    char *out;
    size_t bytes, needed;
} list;

static int add_to_list(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    list *l = context;
    flk_elf elf;
    FLK_ASSERT(l != NULL);
    if (!open_object(&elf, info) || is_left_alone(&elf))
        return 0;
    bool is_traced = object_of(&elf, info).kind == FLK_CALLER_TRACED;
    flk_selection_object seen = selection_of(&elf, info);
    size_t length = strlen(seen.path) + 1;
    size_t more = strlen(seen.absolute) + 1;
    if (l->needed + 1 + length + more <= l->bytes) {
        char *to = l->out + l->needed;
        *to++ = is_traced ? '+' : '-';
        memcpy(to, seen.path, length);
        memcpy(to + length, seen.absolute, more);
    }
    l->needed += 1 + length + more;
    return 0;
}

size_t flk_passes_list(char *out, size_t out_bytes) {
    FLK_ASSERT(out != NULL || out_bytes == 0);
    list l = {out, out_bytes, 0};
    dl_iterate_phdr(add_to_list, &l);
    return l.needed;
}

void flk_passes_read(flk_attach_figures *out) {
    FLK_ASSERT(out != NULL);
    *out = passes.figures;
}
#endif
