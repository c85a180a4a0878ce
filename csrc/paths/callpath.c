// callpath.c - nodes in pages, and a sharded index. Contract: paths/callpath.h. SPDX-License-Identifier: MIT
#include "paths/callpath.h"

#include <string.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/hash.h"
#include "base/platform.h"
#include "paths/thread.h"

typedef struct node {
    uint32_t parent;
    uint32_t site;
} node;

enum { PAGE_NODES = 4096, PAGES = FLK_PATHS_MAX / PAGE_NODES };

typedef struct shard {
    _Alignas(64) flk_lock lock;
    uint32_t *index;    // ids, open addressing, 0 = empty; under `lock`
    uint32_t capacity;  // a power of two
    uint32_t used;
} shard;

static struct {
    shard shards[FLK_PATH_SHARDS];
    // Release: a page is zeroed before its pointer can be read. A node is
    // complete before another thread can receive its id, because ids are passed
    // on under a lock.
    _Atomic(node *) pages[PAGES];
    flk_lock grow_lock;  // under which pages are added
    atomic_uint count;   // of ids; relaxed
} tree = {.grow_lock = FLK_LOCK_INIT(FLK_RANK_CALLPATH)};

uint32_t flk_callpath_count(void) {
    return atomic_load_explicit(&tree.count, memory_order_relaxed);
}

static node *path_at(uint32_t id) {
    FLK_ASSERT(id < FLK_PATHS_MAX);
    node *page = atomic_load_explicit(&tree.pages[id / PAGE_NODES],
                                      memory_order_acquire);
    return page ? &page[id % PAGE_NODES] : NULL;
}

static uint64_t node_hash(uint32_t parent, uint32_t site) {
    FLK_ASSERT(site != 0);
    return flk_hash_mix((uint64_t)parent << 32 | site);
}

// The place of a node in the index, or the empty place where it belongs.
static uint32_t *index_place(shard *s, uint32_t parent, uint32_t site) {
    FLK_ASSERT(s->capacity > 0);
    uint32_t mask = s->capacity - 1;
    uint32_t i = (uint32_t)(node_hash(parent, site) >> 16) & mask;
    while (s->index[i]) {
        const node *n = path_at(s->index[i]);
        if (n->parent == parent && n->site == site)
            break;
        i = (i + 1) & mask;
    }
    return &s->index[i];
}

static bool index_grow(shard *s) {
    shard grown = {.capacity = s->capacity ? s->capacity * 2 : 16};
    grown.index = flk_arena_get(grown.capacity * sizeof(uint32_t), 0);
    if (!grown.index)
        return false;
    memset(grown.index, 0, grown.capacity * sizeof(uint32_t));
    FLK_ASSERT(s->used < grown.capacity);
    for (uint32_t i = 0; i < s->capacity; i++)
        if (s->index[i]) {
            const node *n = path_at(s->index[i]);
            *index_place(&grown, n->parent, n->site) = s->index[i];
        }
    flk_arena_put(s->index, s->capacity * sizeof(uint32_t));
    s->index = grown.index;
    s->capacity = grown.capacity;
    return true;
}

// Makes the page of a node. False: no memory.
static bool page_ready(uint32_t id) {
    FLK_ASSERT(id < FLK_PATHS_MAX);
    _Atomic(node *) *page = &tree.pages[id / PAGE_NODES];
    if (atomic_load_explicit(page, memory_order_acquire))
        return true;
    flk_thread_lock(&tree.grow_lock);
    node *made = atomic_load_explicit(page, memory_order_relaxed);
    if (!made) {
        made = flk_arena_keep(PAGE_NODES * sizeof *made);
        atomic_store_explicit(page, made, memory_order_release);
    }
    flk_thread_unlock(&tree.grow_lock);
    return made != NULL;
}

static uint32_t node_add(uint32_t parent, uint32_t site) {
    uint32_t id = atomic_load_explicit(&tree.count, memory_order_relaxed);
    do {
        if (id + 1 >= FLK_PATHS_MAX || !page_ready(id + 1))
            return FLK_PATH_NONE;
    } while (!atomic_compare_exchange_weak_explicit(
        &tree.count, &id, id + 1, memory_order_relaxed, memory_order_relaxed));
    FLK_ASSERT(parent <= id && path_at(id + 1)->site == 0);
    *path_at(id + 1) = (node){parent, site};
    return id + 1;
}

uint32_t flk_callpath_child(uint32_t parent, uint32_t site) {
    FLK_ASSERT(parent <= flk_callpath_count() && site != 0);
    uint64_t hash = node_hash(parent, site);
    shard *s = &tree.shards[hash >> 48 & (FLK_PATH_SHARDS - 1)];
    uint32_t id = FLK_PATH_NONE;
    flk_thread *guard = flk_thread_guard();
    flk_lock_take(&s->lock);
    if ((s->used + 1) * 4 <= s->capacity * 3 || index_grow(s)) {
        uint32_t *place = index_place(s, parent, site);
        if (*place) {
            id = *place;
        } else if ((id = node_add(parent, site)) != FLK_PATH_NONE) {
            *place = id;
            s->used++;
        }
    }
    flk_lock_release(&s->lock);
    flk_thread_unguard(guard);
    return id;
}

bool flk_callpath_node(uint32_t path, uint32_t *parent, uint32_t *site) {
    FLK_ASSERT(parent && site);
    if (path == FLK_PATH_EMPTY || path > flk_callpath_count())
        return false;
    const node *n = path_at(path);
    *parent = n->parent;
    *site = n->site;
    return n->site != 0;
}

size_t flk_callpath_sites(uint32_t path, uint32_t *sites, size_t sites_max) {
    FLK_ASSERT(sites || sites_max == 0);
    size_t count = 0;
    uint32_t site;
    while (flk_callpath_node(path, &path, &site)) {
        if (count < sites_max)
            sites[count] = site;
        count++;
    }
    return count;
}

static uint32_t shard_check(shard *s, bool *good) {
    FLK_ASSERT(s->used <= s->capacity);
    uint32_t found = 0;
    for (uint32_t i = 0; i < s->capacity; i++) {
        if (!s->index[i])
            continue;
        const node *n = path_at(s->index[i]);
        found++;
        *good &= n->parent < s->index[i];
        *good &= index_place(s, n->parent, n->site) == &s->index[i];
    }
    *good &= found == s->used;
    return found;
}

bool flk_callpath_check(void) {
    bool good = true;
    uint32_t found = 0;
    flk_thread *guard = flk_thread_guard();
    flk_callpath_lock_all();
    for (uint32_t i = 0; i < FLK_PATH_SHARDS; i++)
        found += shard_check(&tree.shards[i], &good);
    good &= found == flk_callpath_count();
    flk_callpath_unlock_all();
    flk_thread_unguard(guard);
    return good;
}

void flk_callpath_init(void) {
    for (uint32_t i = 0; i < FLK_PATH_SHARDS; i++)
        tree.shards[i].lock.rank = FLK_RANK_CALLPATH;
}

void flk_callpath_lock_all(void) {
    for (uint32_t i = 0; i < FLK_PATH_SHARDS; i++)
        flk_thread_lock(&tree.shards[i].lock);
    flk_thread_lock(&tree.grow_lock);
}

void flk_callpath_unlock_all(void) {
    flk_thread_unlock(&tree.grow_lock);
    for (uint32_t i = FLK_PATH_SHARDS; i-- > 0;)
        flk_thread_unlock(&tree.shards[i].lock);
}
