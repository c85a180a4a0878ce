// late_objects.c - the loader's table instead of ours. Contract: hooks/late_objects.h.  SPDX-License-Identifier: MIT
#include "hooks/late_objects.h"

#ifdef FLK_HAS_ELF
#include <stdatomic.h>

#include "elf/loaded.h"
#include "hooks/callers.h"
#include "hooks/providers.h"
#include "hooks/roles.h"
#include "hooks/slots.h"

// All of this is valid in the child of a fork: code, and words of one store.
static _Atomic(bool (*)(void)) pass_now;
static atomic_ullong seen_epoch;

// Objects that were examined and define no allocator, by where they begin:
// reading symbols takes longer than all the rest of an event. An object that
// is loaded where such an object was unloaded is taken for it until the next
// pass.
enum { PLAIN_OBJECTS = 16, PAGE_BITS = 12 };
static atomic_uintptr_t plain_objects[PLAIN_OBJECTS];  // relaxed

static atomic_uintptr_t *plain_place_of(uintptr_t begin) {
    FLK_ASSERT(begin != 0);
    return &plain_objects[(begin >> PAGE_BITS) % PLAIN_OBJECTS];
}

static void note_plain(const flk_loaded *object) {
    atomic_store_explicit(plain_place_of(object->begin), object->begin,
                          memory_order_relaxed);
}

static bool is_provider(const flk_loaded *object) {
    flk_elf elf;
    FLK_ASSERT(object->begin < object->end);
    if (atomic_load_explicit(plain_place_of(object->begin),
                             memory_order_relaxed) == object->begin)
        return false;
    if (flk_loaded_open(object, &elf) && flk_providers_may_be(&elf))
        return true;
    note_plain(object);
    return false;
}

// The object cannot be unloaded meanwhile: its code is running. The program
// has no path; it is in the table of callers.
static flk_caller find_late(uintptr_t address) {
    flk_loaded object;
    FLK_ASSERT(address != 0);
    if (!flk_loaded_at(address, &object))
        return FLK_CALLER_UNKNOWN;
    if (!object.path[0])
        return FLK_CALLER_UNTRACED;
    bool (*pass)(void) = atomic_load(&pass_now);
    if (is_provider(&object) && pass && pass()) {
        note_plain(&object);
        flk_caller listed = flk_callers_listed(address);
        if (listed != FLK_CALLER_UNKNOWN)
            return listed;
    }
    flk_selection_object seen = flk_selection_object_at(object.path);
    return flk_roles_kind(&seen, false);
}

void flk_late_objects_seen(void) {
    atomic_store(&seen_epoch, flk_loaded_epoch());
}

// A looked-up function is called, and something was loaded since the last
// pass. The loader has filled the slots of that object with looked-up
// functions, too, so a tail call in it (`return malloc(n)`) would be
// attributed to its caller. A pass gives it slots of its own kind, and tells
// whether this call may be such a tail call.
static flk_late notice(unsigned function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    bool (*pass)(void) = atomic_load_explicit(&pass_now, memory_order_relaxed);
    if (FLK_LIKELY(
            !pass || !flk_loaded_is_watched() ||
            flk_loaded_epoch() ==
                atomic_load_explicit(&seen_epoch, memory_order_relaxed)) ||
        !pass())
        return FLK_LATE_NO;
    return flk_slots_were_late((flk_function)function) ? FLK_LATE_TRACED
                                                       : FLK_LATE_OTHERS;
}

void flk_late_objects_start(bool (*pass)(void)) {
    FLK_ASSERT(pass != NULL);
    for (int i = 0; i < PLAIN_OBJECTS; i++)
        atomic_store(&plain_objects[i], 0);
    atomic_store(&pass_now, pass);
    flk_loaded_start();
    flk_callers_set_late_objects(notice,
                                 flk_loaded_is_lock_free() ? find_late : NULL);
}
#endif
