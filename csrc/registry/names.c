// names.c - a store of triples, with two indexes. Contract: registry/names.h. SPDX-License-Identifier: MIT
#include "registry/names.h"

#include <stdatomic.h>
#include <string.h>

#include "base/hash.h"
#include "base/id_table.h"
#include "base/platform.h"
#include "base/store.h"
#include "paths/thread.h"

// The three texts of a triple, cut to their limit.
typedef struct key {
    const char *type, *kind, *release;
    char cut[3][FLK_TYPE_NAME_MAX];  // copies of texts that are too long
} key;

enum { ENTRIES_MAX = FLK_TYPES_MAX + 1 };
_Static_assert(ENTRIES_MAX % FLK_STORE_CHUNK == 0, "whole chunks");

static uint64_t hash_of_id(uint32_t id);
static uint64_t hash_of_release(uint32_t id);

static _Atomic(char *) chunks[ENTRIES_MAX / FLK_STORE_CHUNK];
static struct {
    flk_lock lock;  // guards everything except reads of the store
    flk_store store;
    flk_store_texts texts;
    flk_id_table index;     // holds all entries
    flk_id_table releases;  // holds the first entry with each release
    atomic_ullong merged;   // relaxed
} names = {.lock = FLK_LOCK_INIT(FLK_RANK_NAMES),
           .store = {.entry_bytes = sizeof(flk_name),
                     .entries_max = ENTRIES_MAX,
                     .chunks = chunks},
           .index = {.hash_of = hash_of_id},
           .releases = {.hash_of = hash_of_release}};

static const flk_name unknown = {"?", "?", "?", 0};

uint32_t flk_names_count(void) { return flk_store_count(&names.store); }

const flk_name *flk_names_at(uint16_t id) {
    const flk_name *name = flk_store_at(&names.store, id);
    return name ? name : &unknown;
}

uint64_t flk_names_merged(void) {
    return atomic_load_explicit(&names.merged, memory_order_relaxed);
}

// --- keys --------------------------------------------------------------
// The text itself if it is short enough; else a cut copy in `buffer`.
static const char *cut(const char *text, char *buffer) {
    FLK_ASSERT(buffer != NULL);
    FLK_ASSERT(text != NULL);
    if (memchr(text, '\0', FLK_TYPE_NAME_MAX))
        return text;
    size_t length = FLK_TYPE_NAME_MAX - 1;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;  // never cut inside a UTF-8 character
    memcpy(buffer, text, length);
    buffer[length] = '\0';
    return buffer;
}

static void key_of(key *k, const char *type, const char *kind,
                   const char *release) {
    FLK_ASSERT(k != NULL);
    k->type = cut(type, k->cut[0]);
    k->kind = cut(kind, k->cut[1]);
    k->release = cut(release, k->cut[2]);
}

static uint64_t hash_of(const char *type, const char *kind,
                        const char *release) {
    FLK_ASSERT(type != NULL && kind != NULL && release != NULL);
    uint64_t hash = flk_hash_text(type, 0);
    hash = flk_hash_text(kind, hash);
    return flk_hash_mix(flk_hash_text(release, hash));
}

static uint64_t hash_of_id(uint32_t id) {
    const flk_name *name = flk_names_at((uint16_t)id);
    return hash_of(name->type, name->kind, name->release);
}

static uint64_t hash_of_release(uint32_t id) {
    return flk_hash_mix(flk_hash_text(flk_names_at((uint16_t)id)->release, 0));
}

static bool matches(uint32_t id, const void *wanted) {
    FLK_ASSERT(wanted != NULL);
    const flk_name *name = flk_names_at((uint16_t)id);
    const key *k = wanted;
    return strcmp(name->type, k->type) == 0 &&
           strcmp(name->kind, k->kind) == 0 &&
           strcmp(name->release, k->release) == 0;
}

static bool matches_release(uint32_t id, const void *release) {
    FLK_ASSERT(release != NULL);
    return strcmp(flk_names_at((uint16_t)id)->release, release) == 0;
}

// --- intern ------------------------------------------------------------
static uint16_t name_add(const key *k) {
    FLK_ASSERT(k != NULL && k->type != NULL);
    uint32_t id = flk_names_count() + 1;
    if (id > FLK_TYPES_MAX || !flk_id_table_reserve(&names.index) ||
        !flk_id_table_reserve(&names.releases))
        return 0;
    uint32_t same = flk_id_table_find(
        &names.releases, flk_hash_mix(flk_hash_text(k->release, 0)),
        matches_release, k->release);
    flk_name made = {flk_store_text(&names.texts, k->type),
                     flk_store_text(&names.texts, k->kind),
                     flk_store_text(&names.texts, k->release),
                     same ? same : id};
    if (!made.type || !made.kind || !made.release ||
        flk_store_append(&names.store, &made) != id)
        return 0;
    flk_id_table_put(&names.index, id);
    if (!same)
        flk_id_table_put(&names.releases, id);
    return (uint16_t)id;
}

static uint16_t name_find(const key *k) {
    FLK_ASSERT(k != NULL && k->type != NULL);
    uint64_t hash = hash_of(k->type, k->kind, k->release);
    return (uint16_t)flk_id_table_find(&names.index, hash, matches, k);
}

static uint16_t name_find_or_add(key *k) {
    FLK_ASSERT(k != NULL);
    uint16_t id = name_find(k);
    if (id == 0 && flk_names_count() >= FLK_NAMES_DISTINCT) {
        atomic_fetch_add_explicit(&names.merged, 1, memory_order_relaxed);
        k->type = FLK_NAMES_OTHER;
        id = name_find(k);
    }
    return id ? id : name_add(k);
}

uint16_t flk_names_intern(const char *type, const char *kind,
                          const char *release) {
    FLK_ASSERT(type != NULL && kind != NULL && release != NULL);
    key k;
    key_of(&k, type, kind, release);
    flk_thread_lock(&names.lock);
    uint16_t id = name_find_or_add(&k);
    flk_thread_unlock(&names.lock);
    return id;
}

// --- check -------------------------------------------------------------
static bool name_is_sound(uint16_t id) {
    FLK_ASSERT(id != 0);
    const flk_name *name = flk_names_at(id);
    const flk_name *first = flk_names_at((uint16_t)name->release_id);
    key k = {.type = name->type, .kind = name->kind, .release = name->release};
    return name_find(&k) == id && strcmp(first->release, name->release) == 0 &&
           first->release_id == name->release_id;
}

bool flk_names_check(void) {
    flk_thread_lock(&names.lock);
    bool good = flk_id_table_check(&names.index) &&
                flk_id_table_check(&names.releases) &&
                names.index.used == flk_names_count();
    for (uint32_t id = 1; good && id <= flk_names_count(); id++)
        good = name_is_sound((uint16_t)id);
    flk_thread_unlock(&names.lock);
    return good;
}

void flk_names_lock_all(void) { flk_thread_lock(&names.lock); }
void flk_names_unlock_all(void) { flk_thread_unlock(&names.lock); }
