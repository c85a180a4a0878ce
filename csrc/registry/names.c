// names.c - interned types. The contract stands in registry/names.h.          SPDX-License-Identifier: MIT
#include "registry/names.h"

#include <string.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/hash.h"
#include "base/platform.h"
#include "paths/thread.h"

enum { PAGE_ENTRIES = 256, PAGES = (FLK_TYPES_MAX + PAGE_ENTRIES) / 256 };

static const flk_name unknown = {"?", "?", "?", 0};

static struct {
    flk_lock lock;
    _Atomic(flk_name *) pages[PAGES];  // release: entries are complete
    atomic_uint count;                 // release: likewise
    uint16_t *index;                   // open addressing, 0 = empty
    uint32_t index_capacity;           // a power of two; guarded by lock
} names = {.lock = FLK_LOCK_INIT(FLK_RANK_NAMES)};

uint32_t flk_names_count(void) {
    return atomic_load_explicit(&names.count, memory_order_acquire);
}

const flk_name *flk_names_at(uint16_t id) {
    if (id == 0 || id > flk_names_count())
        return &unknown;
    flk_name *page = atomic_load_explicit(&names.pages[id / PAGE_ENTRIES],
                                          memory_order_acquire);
    return &page[id % PAGE_ENTRIES];
}

static bool text_equals(const char *kept, const char *text) {
    return strncmp(kept, text, FLK_TYPE_NAME_MAX - 1) == 0;
}

static bool name_equals(const flk_name *name, const char *type,
                        const char *kind, const char *release) {
    return text_equals(name->type, type) && text_equals(name->kind, kind) &&
           text_equals(name->release, release);
}

static uint64_t name_hash(const char *type, const char *kind,
                          const char *release) {
    const char *texts[3] = {type, kind, release};
    uint64_t hash = 0;
    for (int i = 0; i < 3; i++) {
        char cut[FLK_TYPE_NAME_MAX];
        strncpy(cut, texts[i], sizeof cut - 1);
        cut[sizeof cut - 1] = '\0';
        hash = flk_hash_text(cut, hash);
    }
    return flk_hash_mix(hash);
}

// The place of the triple in the index, or the empty one where it belongs.
static uint16_t *index_place(const char *type, const char *kind,
                             const char *release) {
    uint32_t mask = names.index_capacity - 1;
    uint32_t i = (uint32_t)name_hash(type, kind, release) & mask;
    while (names.index[i] &&
           !name_equals(flk_names_at(names.index[i]), type, kind, release))
        i = (i + 1) & mask;
    return &names.index[i];
}

static bool index_grow(void) {
    uint32_t capacity = names.index_capacity ? names.index_capacity * 2 : 256;
    uint16_t *grown = flk_arena_get(capacity * sizeof *grown, 0);
    if (!grown)
        return false;
    memset(grown, 0, capacity * sizeof *grown);
    flk_arena_put(names.index, names.index_capacity * sizeof *grown);
    names.index = grown;
    names.index_capacity = capacity;
    for (uint32_t id = 1; id <= flk_names_count(); id++) {
        const flk_name *name = flk_names_at((uint16_t)id);
        *index_place(name->type, name->kind, name->release) = (uint16_t)id;
    }
    return true;
}

static const char *text_keep(const char *text) {
    size_t length = strlen(text);
    if (length >= FLK_TYPE_NAME_MAX)
        length = FLK_TYPE_NAME_MAX - 1;
    char *kept = flk_arena_keep(length + 1);
    if (kept)
        memcpy(kept, text, length);
    return kept;
}

static uint32_t release_id_of(const char *release, uint32_t fresh) {
    for (uint32_t id = 1; id <= flk_names_count(); id++) {
        const flk_name *name = flk_names_at((uint16_t)id);
        if (text_equals(name->release, release))
            return name->release_id;
    }
    return fresh;
}

static uint16_t name_add(const char *type, const char *kind,
                         const char *release) {
    uint32_t id = flk_names_count() + 1;
    if (id > FLK_TYPES_MAX)
        return 0;
    flk_name *page = atomic_load_explicit(&names.pages[id / PAGE_ENTRIES],
                                          memory_order_relaxed);
    if (!page) {
        page = flk_arena_keep(PAGE_ENTRIES * sizeof *page);
        if (!page)
            return 0;
        atomic_store_explicit(&names.pages[id / PAGE_ENTRIES], page,
                              memory_order_release);
    }
    flk_name made = {text_keep(type), text_keep(kind), text_keep(release),
                     release_id_of(release, id)};
    if (!made.type || !made.kind || !made.release)
        return 0;
    page[id % PAGE_ENTRIES] = made;
    atomic_store_explicit(&names.count, id, memory_order_release);
    return (uint16_t)id;
}

uint16_t flk_names_intern(const char *type, const char *kind,
                          const char *release) {
    uint16_t id = 0;
    flk_thread_lock(&names.lock);
    bool room = (flk_names_count() + 1) * 2 <= names.index_capacity;
    if (room || index_grow()) {
        uint16_t *place = index_place(type, kind, release);
        if (!*place)
            *place = name_add(type, kind, release);
        id = *place;
    }
    flk_thread_unlock(&names.lock);
    return id;
}

bool flk_names_check(void) {
    bool good = true;
    uint32_t indexed = 0;
    flk_thread_lock(&names.lock);
    for (uint32_t i = 0; i < names.index_capacity; i++) {
        uint16_t id = names.index[i];
        indexed += id != 0;
        if (id) {
            const flk_name *name = flk_names_at(id);
            good &= *index_place(name->type, name->kind, name->release) == id;
        }
    }
    good &= indexed == flk_names_count();
    flk_thread_unlock(&names.lock);
    return good;
}

void flk_names_lock_all(void) { flk_thread_lock(&names.lock); }
void flk_names_unlock_all(void) { flk_thread_unlock(&names.lock); }
