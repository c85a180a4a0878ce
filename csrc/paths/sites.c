// sites.c - two stores and two indexes over them. Contract: paths/sites.h. SPDX-License-Identifier: MIT
#include "paths/sites.h"

#include "base/config.h"
#include "base/hash.h"
#include "base/id_table.h"
#include "base/platform.h"
#include "base/store.h"
#include "paths/thread.h"

typedef struct code_entry {
    const void *address;   // NULL once retired, and of named ones
    const char *function;  // both texts are NULL until copied
    const char *filename;
    uint32_t first_site;  // list of its sites, 0 = end
    bool is_own;          // constant; read without the lock
    bool is_named;        // constant; its offsets are lines
    bool is_dead;         // the code object must not be read any more
} code_entry;

enum { LINE_UNREAD = -2 };

typedef struct site_entry {
    uint32_t code;   // constant; read without the lock
    int32_t offset;  // constant; read without the lock
    uint32_t next;   // site of the same code
    int32_t line;    // LINE_UNREAD until copied
    int32_t column;
} site_entry;

_Static_assert(sizeof(site_entry) == 20, "as paths/sites.h says");

static uint64_t code_hash(uint32_t code), site_hash(uint32_t site);
static _Atomic(char *) code_chunks[FLK_CODES_MAX / FLK_STORE_CHUNK];
static _Atomic(char *) site_chunks[FLK_SITES_MAX / FLK_STORE_CHUNK];

static struct {
    flk_lock lock;  // guards all but what is constant or atomic
    flk_store codes;
    flk_store entries;
    flk_id_table addresses;  // the codes that have an address
    flk_id_table places;     // the sites by code and offset
    flk_store_texts texts;
    const flk_sites_reader *reader;
    // Relaxed: who runs a code object at a reused address got that address
    // through the allocator, hence after the death that was counted here.
    atomic_ullong generation;
} sites = {.lock = FLK_LOCK_INIT(FLK_RANK_CODES),
           .codes = {sizeof(code_entry), FLK_CODES_MAX, code_chunks, 0},
           .entries = {sizeof(site_entry), FLK_SITES_MAX, site_chunks, 0},
           .addresses = {.hash_of = code_hash},
           .places = {.hash_of = site_hash}};

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
    return address_hash(code_at(code)->address);
}

static uint64_t site_hash(uint32_t site) {
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
    return flk_id_table_find(&sites.addresses, address_hash(address),
                             code_matches, address);
}

static uint32_t find_site(uint32_t code, int32_t offset) {
    site_entry wanted = {.code = code, .offset = offset};
    return flk_id_table_find(&sites.places, place_hash(code, offset),
                             site_matches, &wanted);
}

// --- codes -------------------------------------------------------------
static uint32_t code_add(const void *address, bool (*own)(const void *)) {
    if (!flk_id_table_reserve(&sites.addresses))
        return 0;
    code_entry entry = {.address = address, .is_own = own && own(address)};
    uint32_t code = flk_store_append(&sites.codes, &entry);
    if (code)
        flk_id_table_put(&sites.addresses, code);
    return code;
}

uint32_t flk_sites_code(const void *address, bool (*own)(const void *)) {
    FLK_ASSERT(address != NULL);
    flk_thread_lock(&sites.lock);
    uint32_t code = find_code(address);
    if (!code)
        code = code_add(address, own);
    flk_thread_unlock(&sites.lock);
    return code;
}

uint32_t flk_sites_named(const char *function, const char *filename) {
    flk_thread_lock(&sites.lock);
    code_entry entry = {.function = flk_store_text(&sites.texts, function),
                        .filename = flk_store_text(&sites.texts, filename),
                        .is_named = true,
                        .is_dead = true};
    bool is_kept = entry.function && entry.filename;
    uint32_t code = is_kept ? flk_store_append(&sites.codes, &entry) : 0;
    flk_thread_unlock(&sites.lock);
    return code;
}

bool flk_sites_code_is_own(uint32_t code) {
    const code_entry *entry = code_at(code);
    return entry && entry->is_own;
}

uint32_t flk_sites_code_count(void) { return flk_store_count(&sites.codes); }

// --- sites -------------------------------------------------------------
static uint32_t site_add(uint32_t code, int32_t offset) {
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
    flk_thread_lock(&sites.lock);
    uint32_t site = find_site(code, offset);
    if (!site)
        site = site_add(code, offset);
    flk_thread_unlock(&sites.lock);
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

// --- copying what a code object tells ----------------------------------
void flk_sites_set_reader(const flk_sites_reader *reader) {
    flk_thread_lock(&sites.lock);
    sites.reader = reader;
    flk_thread_unlock(&sites.lock);
}

static bool is_readable(const code_entry *code) {
    return code->address && !code->is_dead && sites.reader;
}

static void copy_names(code_entry *code) {
    if (code->function || !is_readable(code))
        return;
    const char *function = "", *filename = "";
    sites.reader->names(code->address, &function, &filename);
    const char *kept = flk_store_text(&sites.texts, function);
    code->filename = kept ? flk_store_text(&sites.texts, filename) : NULL;
    code->function = code->filename ? kept : NULL;
}

static void copy_line(const code_entry *code, site_entry *site) {
    if (site->line != LINE_UNREAD || !is_readable(code))
        return;
    flk_site_info info = {"", "", -1, -1};
    sites.reader->line(code->address, site->offset, &info);
    site->line = info.line < 0 ? -1 : info.line;
    site->column = info.column;
}

static void copy_all(code_entry *code) {
    copy_names(code);
    for (uint32_t site = code->first_site; site; site = site_at(site)->next)
        copy_line(code, site_at(site));
}

void flk_sites_freeze_all(void) {
    for (uint32_t code = 1; code <= flk_sites_code_count(); code++) {
        flk_thread_lock(&sites.lock);  // anew for each: nobody waits long
        copy_all(code_at(code));
        flk_thread_unlock(&sites.lock);
    }
}

// A code object that dies meanwhile waits for the lock in flk_sites_retire
// before anything of it is freed, on whatever thread and with or without a
// GIL: what is not dead here can be read.
bool flk_sites_describe(uint32_t site, flk_site_info *out) {
    site_entry *entry = site_at(site);
    if (!entry)
        return false;
    flk_thread_lock(&sites.lock);
    code_entry *code = code_at(entry->code);
    copy_names(code);
    copy_line(code, entry);
    *out = (flk_site_info){code->function ? code->function : "",
                           code->filename ? code->filename : "",
                           entry->line == LINE_UNREAD ? -1 : entry->line,
                           entry->column};
    flk_thread_unlock(&sites.lock);
    return true;
}

// --- death -------------------------------------------------------------
uint64_t flk_sites_generation(void) {
    return atomic_load_explicit(&sites.generation, memory_order_relaxed);
}

static void bury(const void *address, bool is_gone) {
    flk_thread_lock(&sites.lock);
    uint32_t id = find_code(address);
    code_entry *code = code_at(id);
    if (code) {
        copy_all(code);
        code->is_dead = true;
    }
    if (code && is_gone) {
        flk_id_table_remove(&sites.addresses, id);
        code->address = NULL;
        atomic_fetch_add_explicit(&sites.generation, 1, memory_order_relaxed);
    }
    flk_thread_unlock(&sites.lock);
}

void flk_sites_dying(const void *address) { bury(address, false); }
void flk_sites_retire(const void *address) { bury(address, true); }

// --- checks and the fork -----------------------------------------------
static bool code_is_sound(uint32_t id, uint32_t *site_count) {
    const code_entry *code = code_at(id);
    if (!code->function != !code->filename ||
        (code->address ? find_code(code->address) != id : !code->is_dead))
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
    flk_thread_lock(&sites.lock);
    uint32_t with_address = 0, listed = 0;
    bool is_sound = flk_id_table_check(&sites.addresses) &&
                    flk_id_table_check(&sites.places);
    for (uint32_t id = 1; is_sound && id <= flk_sites_code_count(); id++) {
        with_address += code_at(id)->address != NULL;
        is_sound = code_is_sound(id, &listed);
    }
    is_sound = is_sound && with_address == sites.addresses.used &&
               listed == flk_sites_count() && listed == sites.places.used;
    flk_thread_unlock(&sites.lock);
    return is_sound;
}

void flk_sites_lock_all(void) { flk_thread_lock(&sites.lock); }
void flk_sites_unlock_all(void) { flk_thread_unlock(&sites.lock); }
