// call_tree_cache.c - a tree in a ring. Contract: paths/call_tree_cache.h. SPDX-License-Identifier: MIT
#include "paths/call_tree_cache.h"

#include "base/hash.h"
#include "paths/callpath.h"

#ifdef FLK_HAS_ELF
static FLK_HOT flk_call_tree_node *node_at(flk_call_tree_cache *cache,
                                           uint32_t number) {
    return &cache->nodes[number % FLK_NATIVE_NODES];
}

static FLK_HOT uint32_t *place_of(flk_call_tree_cache *cache, uint32_t parent,
                                  uintptr_t address) {
    uint64_t key = address + parent * UINT64_C(0xBF58476D1CE4E5B9);
    return &cache->places[flk_hash_key(key) >> 32 & (FLK_CALL_TREE_PLACES - 1)];
}

// Tries the child that was found last first, which is mostly the right one and
// needs no hash.
static FLK_HOT flk_call_tree_node *child_of(flk_call_tree_cache *cache,
                                            flk_call_tree_node *parent,
                                            uintptr_t address) {
    FLK_ASSERT(parent->number != 0);
    flk_call_tree_node *child = node_at(cache, parent->last);
    if (FLK_LIKELY(child->parent == parent->number &&
                   child->address == address))
        return child;
    child = node_at(cache, *place_of(cache, parent->number, address));
    if (child->parent != parent->number || child->address != address)
        return NULL;
    parent->last = child->number;
    return child;
}

// Roots are found by their path and address.
static FLK_HOT uint32_t *root_place(flk_call_tree_cache *cache, uintptr_t pc,
                                    uint32_t base) {
    return place_of(cache, 0, pc ^ (uintptr_t)base << 32);
}

static FLK_HOT flk_call_tree_node *root_of(flk_call_tree_cache *cache,
                                           uintptr_t pc, uint32_t base) {
    flk_call_tree_node *root = node_at(cache, *root_place(cache, pc, base));
    bool is_found = root->number && !root->parent && root->path == base &&
                    root->address == pc;
    return FLK_LIKELY(is_found) ? root : NULL;
}

// By induction each node reached is the node of the live frame: the rules of the
// nodes before it led to its return address on the live stack, and its rule
// belongs to that address.
FLK_READS_STACKS uint32_t flk_call_tree_cache_follow(flk_call_tree_cache *cache,
                                                     const flk_registers *from,
                                                     uint32_t base) {
    FLK_ASSERT(base != FLK_PATH_NONE);
    flk_registers at = *from;
    flk_call_tree_node *one = root_of(cache, at.pc, base);
    while (one) {
        flk_step(&one->how, &at);
        one = child_of(cache, one, at.pc);
        if (one && one->path != FLK_PATH_NONE)
            return one->path;
    }
    return FLK_PATH_NONE;
}

static flk_call_tree_node *add(flk_call_tree_cache *cache, uint32_t *place,
                               uint32_t parent, uintptr_t address,
                               uint32_t path) {
    FLK_ASSERT(!flk_call_tree_cache_is_full(cache) && parent <= cache->number);
    uint32_t number = ++cache->number;
    flk_call_tree_node *one = node_at(cache, number);
    *place = number;
    *one = (flk_call_tree_node){
        .address = address, .number = number, .parent = parent, .path = path};
    return one;
}

static flk_call_tree_node *find_or_add_child(flk_call_tree_cache *cache,
                                             flk_call_tree_node *parent,
                                             uintptr_t address, uint32_t path) {
    FLK_ASSERT(parent->number <= cache->number);
    flk_call_tree_node *child = child_of(cache, parent, address);
    if (!child) {
        uint32_t *place = place_of(cache, parent->number, address);
        child = add(cache, place, parent->number, address, path);
        parent->last = child->number;
    }
    return child;
}

void flk_call_tree_cache_add(flk_call_tree_cache *cache,
                             const flk_registers *from, uint32_t base,
                             const flk_call_tree_step *steps, uint32_t count,
                             uint32_t path) {
    FLK_ASSERT(count > 0 && count <= FLK_NATIVE_STEPS_MAX);
    FLK_ASSERT(path != FLK_PATH_NONE);
    flk_call_tree_node *one = root_of(cache, from->pc, base);
    if (!one)
        one = add(cache, root_place(cache, from->pc, base), 0, from->pc, base);
    for (uint32_t i = 0; i < count; i++) {
        one->how = steps[i].how;
        one = find_or_add_child(cache, one, steps[i].returns_to,
                                i + 1 == count ? path : FLK_PATH_NONE);
    }
}

static bool node_is_sound(const flk_call_tree_cache *cache, uint32_t i) {
    FLK_ASSERT(i < FLK_NATIVE_NODES);
    const flk_call_tree_node *one = &cache->nodes[i];
    return one->number == 0 ||
           (one->number % FLK_NATIVE_NODES == i &&
            one->number <= cache->number && one->parent < one->number &&
            cache->number - one->number < FLK_NATIVE_NODES);
}

bool flk_call_tree_cache_check(const flk_call_tree_cache *cache) {
    FLK_ASSERT(cache != NULL);
    bool is_sound = true;
    for (uint32_t i = 0; i < FLK_NATIVE_NODES; i++)
        is_sound &= node_is_sound(cache, i);
    return is_sound;
}
#endif
