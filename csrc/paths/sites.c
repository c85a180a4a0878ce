// sites.c - two stores and three indexes over them. Contract: paths/sites.h. SPDX-License-Identifier: MIT
#include "paths/sites.h"

#include <string.h>

#include "base/config.h"
#include "base/hash.h"
#include "base/id_table.h"
#include "base/platform.h"
#include "base/store.h"
#include "paths/thread.h"

typedef struct code_entry {
    const void *address;    // NULL when retired, and for named codes
    const char *function;   // both texts are NULL until they are copied
    const char *filename;   //
    uint64_t identity_key;  // constant; 0 = the code object was not read
    uint32_t first_site;    // list of its sites, 0 = end
    bool is_own;            // constant; read without the lock
    bool is_named;          // constant; offsets are lines
    bool is_dead;           // the code object must not be read any more
    bool is_retired;        // it is in the index `retired`
} code_entry;

enum { LINE_UNREAD = -2 };

typedef struct site_entry {
    uint32_t code;   // constant; read without the lock
    int32_t offset;  // constant; read without the lock
    uint32_t next;   // site of the same code
    int32_t line;    // LINE_UNREAD until it is copied
    int32_t column;
} site_entry;

_Static_assert(sizeof(code_entry) == 40 && sizeof(site_entry) == 20,
               "as paths/sites.h says");

static uint64_t code_hash(uint32_t code), site_hash(uint32_t site);
static uint64_t identity_hash(uint32_t code);
static _Atomic(char *) code_chunks[FLK_CODES_MAX / FLK_STORE_CHUNK];
static _Atomic(char *) site_chunks[FLK_SITES_MAX / FLK_STORE_CHUNK];

static struct {
    flk_lock lock;  // guards everything that is neither constant nor atomic
    flk_store codes;
    flk_store entries;
    flk_id_table addresses;  // codes that have an address, by address
    flk_id_table retired;    // retired codes, by identity
    flk_id_table places;     // sites, by code and offset
    flk_store_texts texts;
    const flk_sites_reader *reader;
    // Relaxed: a thread that runs a code object at a reused address got the
    // address from the allocator, after the death that was counted here.
    atomic_ullong generation;
} sites = {.lock = FLK_LOCK_INIT(FLK_RANK_CODES),
           .codes = {sizeof(code_entry), FLK_CODES_MAX, code_chunks, 0},
           .entries = {sizeof(site_entry), FLK_SITES_MAX, site_chunks, 0},
           .addresses = {.hash_of = code_hash},
           .retired = {.hash_of = identity_hash},
           .places = {.hash_of = site_hash}};

static flk_thread *lock_sites(void) {
    flk_thread *guard = flk_thread_guard();
    flk_lock_take(&sites.lock);
    return guard;
}

static void unlock_sites(flk_thread *guard) {
    flk_lock_release(&sites.lock);
    flk_thread_unguard(guard);
}

// --- entries and their keys --------------------------------------------
static code_entry *code_at(uint32_t code) {
    return flk_store_at(&sites.codes, code);
}

static site_entry *site_at(uint32_t site) {
    return flk_store_at(&sites.entries, site);
}

static uint64_t address_hash(const void *address) {
    return flk_hash_mix((uint64_t)(uintptr_t)address);
}

static uint64_t place_hash(uint32_t code, int32_t offset) {
    return flk_hash_mix((uint64_t)code << 32 | (uint32_t)offset);
}

static uint64_t code_hash(uint32_t code) {
    FLK_ASSERT(code_at(code)->address != NULL);
    return address_hash(code_at(code)->address);
}

static uint64_t identity_hash(uint32_t code) {
    FLK_ASSERT(code_at(code)->identity_key != 0);
    return flk_hash_mix(code_at(code)->identity_key);
}

static uint64_t site_hash(uint32_t site) {
    FLK_ASSERT(site_at(site) != NULL);
    return place_hash(site_at(site)->code, site_at(site)->offset);
}

static bool code_matches(uint32_t code, const void *address) {
    return code_at(code)->address == address;
}

static bool site_matches(uint32_t site, const void *key) {
    const site_entry *entry = site_at(site), *wanted = key;
    return entry->code == wanted->code && entry->offset == wanted->offset;
}

static uint32_t find_code(const void *address) {
    FLK_ASSERT(address != NULL);
    return flk_id_table_find(&sites.addresses, address_hash(address),
                             code_matches, address);
}

static uint32_t find_site(uint32_t code, int32_t offset) {
    site_entry wanted = {.code = code, .offset = offset};
    return flk_id_table_find(&sites.places, place_hash(code, offset),
                             site_matches, &wanted);
}

// --- retired codes -----------------------------------------------------
// Never 0. The key includes a 64-bit hash of the line table; the texts are
// compared as well.
static uint64_t key_of(const flk_code_identity *identity) {
    FLK_ASSERT(identity->function && identity->filename);
    uint64_t hash = flk_hash_text(identity->function, identity->lines_hash);
    hash = flk_hash_text(identity->filename, hash);
    return hash ? hash : 1;
}

typedef struct wanted_code {
    uint64_t key;
    const flk_code_identity *identity;
} wanted_code;

static bool identity_matches(uint32_t code, const void *key) {
    FLK_ASSERT(code_at(code)->function != NULL);
    const wanted_code *wanted = key;
    const code_entry *entry = code_at(code);
    return entry->identity_key == wanted->key &&
           strcmp(entry->function, wanted->identity->function) == 0 &&
           strcmp(entry->filename, wanted->identity->filename) == 0;
}

// A code without texts, or without a key, cannot be compared: it stays alone.
static void make_reusable(uint32_t id, code_entry *code) {
    FLK_ASSERT(code->is_dead && !code->address && !code->is_retired);
    if (!code->identity_key || !code->function ||
        !flk_id_table_reserve(&sites.retired))
        return;
    flk_id_table_put(&sites.retired, id);
    code->is_retired = true;
}

// Gives the retired code of an equal code object to the one at `address`;
// returns 0 if there is none.
static uint32_t reuse(const void *address, const wanted_code *wanted) {
    FLK_ASSERT(wanted->key != 0 && !find_code(address));
    uint32_t id = flk_id_table_find(&sites.retired, flk_hash_mix(wanted->key),
                                    identity_matches, wanted);
    code_entry *code = code_at(id);
    if (!code)
        return 0;
    FLK_ASSERT(code->is_dead && code->is_retired && !code->address);
    flk_id_table_remove(&sites.retired, id);
    code->is_retired = code->is_dead = false;
    code->address = address;
    flk_id_table_put(&sites.addresses, id);
    return id;
}

// --- codes -------------------------------------------------------------
static uint32_t code_add(const void *address) {
    FLK_ASSERT(!find_code(address));
    if (!flk_id_table_reserve(&sites.addresses))
        return 0;
    flk_code_identity identity;
    wanted_code wanted = {.identity = &identity};
    code_entry entry = {.address = address};
    if (sites.reader && sites.reader->identify(address, &identity)) {
        wanted.key = key_of(&identity);
        uint32_t known = reuse(address, &wanted);
        if (known)
            return known;
        entry.identity_key = wanted.key;
        entry.is_own = identity.is_own;
    }
    uint32_t code = flk_store_append(&sites.codes, &entry);
    if (code)
        flk_id_table_put(&sites.addresses, code);
    return code;
}

uint32_t flk_sites_code(const void *address) {
    FLK_ASSERT(address != NULL);
    flk_thread *guard = lock_sites();
    uint32_t code = find_code(address);
    if (!code)
        code = code_add(address);
    unlock_sites(guard);
    return code;
}

flk_code_state flk_sites_state(const void *address) {
    FLK_ASSERT(address != NULL);
    flk_thread *guard = lock_sites();
    const code_entry *code = code_at(find_code(address));
    flk_code_state state = !code           ? FLK_CODE_UNKNOWN
                           : code->is_dead ? FLK_CODE_DYING
                                           : FLK_CODE_LIVE;
    unlock_sites(guard);
    return state;
}

uint32_t flk_sites_named(const char *function, const char *filename) {
    FLK_ASSERT(function && filename);
    flk_thread *guard = lock_sites();
    code_entry entry = {.function = flk_store_text(&sites.texts, function),
                        .filename = flk_store_text(&sites.texts, filename),
                        .is_named = true,
                        .is_dead = true};
    bool is_kept = entry.function && entry.filename;
    uint32_t code = is_kept ? flk_store_append(&sites.codes, &entry) : 0;
    unlock_sites(guard);
    return code;
}

bool flk_sites_code_is_own(uint32_t code) {
    const code_entry *entry = code_at(code);
    return entry && entry->is_own;
}

uint32_t flk_sites_code_count(void) { return flk_store_count(&sites.codes); }

// --- sites -------------------------------------------------------------
static uint32_t site_add(uint32_t code, int32_t offset) {
    FLK_ASSERT(!find_site(code, offset));
    code_entry *owner = code_at(code);
    if (!owner || !flk_id_table_reserve(&sites.places))
        return 0;
    site_entry entry = {code, offset, owner->first_site, LINE_UNREAD, -1};
    if (owner->is_named)
        entry.line = offset;
    uint32_t site = flk_store_append(&sites.entries, &entry);
    if (!site)
        return 0;
    owner->first_site = site;
    flk_id_table_put(&sites.places, site);
    return site;
}

uint32_t flk_sites_intern(uint32_t code, int32_t offset) {
    flk_thread *guard = lock_sites();
    uint32_t site = find_site(code, offset);
    if (!site)
        site = site_add(code, offset);
    unlock_sites(guard);
    FLK_ASSERT(!site || flk_sites_code_of(site) == code);
    return site;
}

uint32_t flk_sites_code_of(uint32_t site) {
    const site_entry *entry = site_at(site);
    return entry ? entry->code : 0;
}

int32_t flk_sites_offset_of(uint32_t site) {
    const site_entry *entry = site_at(site);
    return entry ? entry->offset : -1;
}

uint32_t flk_sites_count(void) { return flk_store_count(&sites.entries); }

// --- copies of texts and lines -----------------------------------------
void flk_sites_set_reader(const flk_sites_reader *reader) {
    FLK_ASSERT(!reader || (reader->identify && reader->names && reader->line));
    flk_thread *guard = lock_sites();
    sites.reader = reader;
    unlock_sites(guard);
}

static bool is_readable(const code_entry *code) {
    return code->address && !code->is_dead && sites.reader;
}

static void copy_names(code_entry *code) {
    FLK_ASSERT(!code->function == !code->filename);
    if (code->function || !is_readable(code))
        return;
    const char *function = "", *filename = "";
    sites.reader->names(code->address, &function, &filename);
    const char *kept = flk_store_text(&sites.texts, function);
    code->filename = kept ? flk_store_text(&sites.texts, filename) : NULL;
    code->function = code->filename ? kept : NULL;
}

static void copy_line(const code_entry *code, site_entry *site) {
    FLK_ASSERT(code == code_at(site->code));
    if (site->line != LINE_UNREAD || !is_readable(code))
        return;
    flk_site_info info = {"", "", -1, -1};
    sites.reader->line(code->address, site->offset, &info);
    site->line = info.line < 0 ? -1 : info.line;
    site->column = info.column;
}

static void copy_all(code_entry *code) {
    FLK_ASSERT(code->is_dead || code->address);
    copy_names(code);
    for (uint32_t site = code->first_site; site; site = site_at(site)->next)
        copy_line(code, site_at(site));
}

void flk_sites_freeze_all(void) {
    for (uint32_t code = 1; code <= flk_sites_code_count(); code++) {
        flk_thread *guard = lock_sites();  // briefly: once for each code
        copy_all(code_at(code));
        unlock_sites(guard);
    }
}

// A code object that dies meanwhile waits for the lock in flk_sites_retire
// before any part of it is freed, in any thread, with or without a GIL. So a
// code object that is not marked dead here can be read.
bool flk_sites_describe(uint32_t site, flk_site_info *out) {
    site_entry *entry = site_at(site);
    if (!entry)
        return false;
    flk_thread *guard = lock_sites();
    code_entry *code = code_at(entry->code);
    copy_names(code);
    copy_line(code, entry);
    *out = (flk_site_info){code->function ? code->function : "",
                           code->filename ? code->filename : "",
                           entry->line == LINE_UNREAD ? -1 : entry->line,
                           entry->column};
    unlock_sites(guard);
    return true;
}

// --- death -------------------------------------------------------------
uint64_t flk_sites_generation(void) {
    return atomic_load_explicit(&sites.generation, memory_order_relaxed);
}

static void retire(uint32_t id, code_entry *code) {
    FLK_ASSERT(code->is_dead && code->address);
    flk_id_table_remove(&sites.addresses, id);
    code->address = NULL;
    make_reusable(id, code);
    atomic_fetch_add_explicit(&sites.generation, 1, memory_order_relaxed);
}

static void bury(const void *address, bool is_gone) {
    FLK_ASSERT(address != NULL);
    if (flk_sites_code_count() == 0)
        return;  // nothing was ever tracked
    flk_thread *guard = lock_sites();
    uint32_t id = find_code(address);
    code_entry *code = code_at(id);
    if (code) {
        copy_all(code);
        code->is_dead = true;
    }
    if (code && is_gone)
        retire(id, code);
    unlock_sites(guard);
}

void flk_sites_dying(const void *address) { bury(address, false); }
void flk_sites_retire(const void *address) { bury(address, true); }

// --- checks and the fork -----------------------------------------------
static bool state_is_sound(uint32_t id, const code_entry *code) {
    bool is_compared = code->is_dead && code->identity_key && code->function;
    return !code->function == !code->filename &&
           (code->address ? find_code(code->address) == id : code->is_dead) &&
           (!code->is_retired || (is_compared && !code->address));
}

static bool code_is_sound(uint32_t id, uint32_t *site_count) {
    FLK_ASSERT(id != 0);
    const code_entry *code = code_at(id);
    if (!state_is_sound(id, code))
        return false;
    for (uint32_t site = code->first_site; site; site = site_at(site)->next) {
        const site_entry *entry = site_at(site);
        bool is_circle = ++*site_count > flk_sites_count();
        if (is_circle || entry->code != id ||
            find_site(id, entry->offset) != site)
            return false;
    }
    return true;
}

bool flk_sites_check(void) {
    flk_thread *guard = lock_sites();
    uint32_t with_address = 0, retired = 0, listed = 0;
    bool is_sound = flk_id_table_check(&sites.addresses) &&
                    flk_id_table_check(&sites.retired) &&
                    flk_id_table_check(&sites.places);
    for (uint32_t id = 1; is_sound && id <= flk_sites_code_count(); id++) {
        with_address += code_at(id)->address != NULL;
        retired += code_at(id)->is_retired;
        is_sound = code_is_sound(id, &listed);
    }
    is_sound = is_sound && with_address == sites.addresses.used &&
               retired == sites.retired.used && listed == flk_sites_count() &&
               listed == sites.places.used;
    unlock_sites(guard);
    return is_sound;
}

void flk_sites_lock_all(void) { flk_thread_lock(&sites.lock); }
void flk_sites_unlock_all(void) { flk_thread_unlock(&sites.lock); }
