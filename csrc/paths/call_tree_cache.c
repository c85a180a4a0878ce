// call_tree_cache.c - a tree in a ring. Contract: paths/call_tree_cache.h.                       SPDX-License-Identifier: MIT
#include "paths/call_tree_cache.h"

#include "base/hash.h"
#include "paths/callpath.h"

#ifdef FLK_HAS_ELF
static FLK_HOT flk_call_tree_node *node_at(flk_call_tree_cache *ways,
                                           uint32_t number) {
    return &ways->nodes[number % FLK_NATIVE_NODES];
}

static FLK_HOT uint32_t *place_of(flk_call_tree_cache *ways, uint32_t parent,
                                  uintptr_t address) {
    uint64_t key = address + parent * UINT64_C(0xBF58476D1CE4E5B9);
    return &ways->places[flk_hash_key(key) >> 32 & (FLK_CALL_TREE_PLACES - 1)];
}

// Most often the one met last: no processor waits for the hash.
static FLK_HOT flk_call_tree_node *child_of(flk_call_tree_cache *ways,
                                            flk_call_tree_node *parent,
                                            uintptr_t address) {
    flk_call_tree_node *child = node_at(ways, parent->last);
    if (FLK_LIKELY(child->parent == parent->number &&
                   child->address == address))
        return child;
    child = node_at(ways, *place_of(ways, parent->number, address));
    if (child->parent != parent->number || child->address != address)
        return NULL;
    parent->last = child->number;
    return child;
}

// Roots stand at their place by path and address.
static FLK_HOT uint32_t *root_place(flk_call_tree_cache *ways, uintptr_t pc,
                                    uint32_t base) {
    return place_of(ways, 0, pc ^ (uintptr_t)base << 32);
}

static FLK_HOT flk_call_tree_node *root_of(flk_call_tree_cache *ways,
                                           uintptr_t pc, uint32_t base) {
    flk_call_tree_node *root = node_at(ways, *root_place(ways, pc, base));
    bool is_it = root->number && !root->parent && root->path == base &&
                 root->address == pc;
    return FLK_LIKELY(is_it) ? root : NULL;
}

// A node's rule belongs to its address, and the node is where the live stack
// leads by the rules of those before it: so its rule is right as well.
FLK_READS_STACKS uint32_t flk_call_tree_cache_follow(flk_call_tree_cache *ways,
                                                     const flk_registers *from,
                                                     uint32_t base) {
    flk_registers at = *from;
    flk_call_tree_node *one = root_of(ways, at.pc, base);
    while (one) {
        flk_step(&one->how, &at);
        one = child_of(ways, one, at.pc);
        if (one && one->path != FLK_PATH_NONE)
            return one->path;
    }
    return FLK_PATH_NONE;
}

static flk_call_tree_node *add(flk_call_tree_cache *ways, uint32_t *place,
                               uint32_t parent, uintptr_t address,
                               uint32_t path) {
    uint32_t number = ++ways->number;
    flk_call_tree_node *one = node_at(ways, number);
    *place = number;
    *one = (flk_call_tree_node){
        .address = address, .number = number, .parent = parent, .path = path};
    return one;
}

static flk_call_tree_node *child_made(flk_call_tree_cache *ways,
                                      flk_call_tree_node *parent,
                                      uintptr_t address, uint32_t path) {
    flk_call_tree_node *child = child_of(ways, parent, address);
    if (!child) {
        uint32_t *place = place_of(ways, parent->number, address);
        child = add(ways, place, parent->number, address, path);
        parent->last = child->number;
    }
    return child;
}

void flk_call_tree_cache_add(flk_call_tree_cache *ways,
                             const flk_registers *from, uint32_t base,
                             const flk_call_tree_step *steps, uint32_t count,
                             uint32_t path) {
    FLK_ASSERT(count > 0 && path != FLK_PATH_NONE);
    flk_call_tree_node *one = root_of(ways, from->pc, base);
    if (!one)
        one = add(ways, root_place(ways, from->pc, base), 0, from->pc, base);
    for (uint32_t i = 0; i < count; i++) {
        one->how = steps[i].how;
        one = child_made(ways, one, steps[i].returns_to,
                         i + 1 == count ? path : FLK_PATH_NONE);
    }
}

static bool node_is_sound(const flk_call_tree_cache *ways, uint32_t i) {
    const flk_call_tree_node *one = &ways->nodes[i];
    return one->number == 0 ||
           (one->number % FLK_NATIVE_NODES == i &&
            one->number <= ways->number && one->parent < one->number &&
            ways->number - one->number < FLK_NATIVE_NODES);
}

bool flk_call_tree_cache_check(const flk_call_tree_cache *ways) {
    bool is_sound = true;
    for (uint32_t i = 0; i < FLK_NATIVE_NODES; i++)
        is_sound &= node_is_sound(ways, i);
    return is_sound;
}
#endif
