// late_objects.c - who is at this address, lock-free. Contract: hooks/late_objects.h.  SPDX-License-Identifier: MIT
#include "hooks/late_objects.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>

#include "elf/loaded.h"
#include "hooks/callers.h"
#include "hooks/providers.h"
#include "hooks/selection.h"

// As glibc lays it out; older headers do not have it.
typedef struct found_object {
    unsigned long long flags;
    void *begin, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[16];  // more than any version has
} found_object;

static int (*find_object)(void *address, found_object *out);

static _Atomic(bool (*)(void)) round_now;

// Objects asked about lately that need no round, by where they begin: reading
// their symbols takes longer than all the rest. One that comes to lie where
// such a one lay is taken for it until the next round.
enum { PLAIN_ONES = 16, PAGE_BITS = 12 };
static atomic_uintptr_t plain_ones[PLAIN_ONES];  // relaxed

static atomic_uintptr_t *plain_place_of(const found_object *object) {
    return &plain_ones[((uintptr_t)object->begin >> PAGE_BITS) % PLAIN_ONES];
}

static void note_plain(const found_object *object) {
    atomic_store_explicit(plain_place_of(object), (uintptr_t)object->begin,
                          memory_order_relaxed);
}

static bool is_provider(const found_object *object) {
    uintptr_t begin = (uintptr_t)object->begin;
    if (atomic_load_explicit(plain_place_of(object), memory_order_relaxed) ==
        begin)
        return false;
    const Elf64_Ehdr *header = object->begin;
    flk_elf elf;
    if (flk_elf_open(&elf, object->map->l_addr,
                     (const void *)(begin + header->e_phoff),
                     header->e_phnum) &&
        flk_providers_may_be(&elf))
        return true;
    note_plain(object);
    return false;
}

static flk_caller find_late(uintptr_t address) {
    found_object object;
    if (find_object((void *)address, &object) != 0 || !object.map)
        return FLK_CALLER_UNKNOWN;
    // Who runs there keeps it loaded, and its name with it. The program has
    // none, and is in the table.
    const char *path = object.map->l_name;
    if (!path || !path[0])
        return FLK_CALLER_UNTRACED;
    bool (*do_round)(void) = atomic_load(&round_now);
    if (is_provider(&object) && do_round && do_round()) {
        note_plain(&object);
        flk_caller listed = flk_callers_listed(address);
        if (listed != FLK_CALLER_UNKNOWN)
            return listed;
    }
    return flk_selection_has(path) ? FLK_CALLER_TRACED : FLK_CALLER_UNTRACED;
}

static atomic_ullong seen_epoch;

void flk_late_objects_seen(void) {
    atomic_store(&seen_epoch, flk_loaded_epoch());
}

void flk_late_objects_notice(void) {
    bool (*do_round)(void) =
        atomic_load_explicit(&round_now, memory_order_relaxed);
    if (FLK_UNLIKELY(
            do_round && flk_loaded_is_watched() &&
            flk_loaded_epoch() !=
                atomic_load_explicit(&seen_epoch, memory_order_relaxed)))
        do_round();
}

void flk_late_objects_start(bool (*do_round)(void)) {
    for (int i = 0; i < PLAIN_ONES; i++)
        atomic_store(&plain_ones[i], 0);
    atomic_store(&round_now, do_round);
    find_object =
        (int (*)(void *, found_object *))dlsym(RTLD_DEFAULT, "_dl_find_object");
    dlerror();
    flk_loaded_start();
    flk_callers_set_late_objects(find_object ? find_late : NULL);
}
#endif
