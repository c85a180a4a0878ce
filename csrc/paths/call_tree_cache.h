// call_tree_cache.h - the native stacks found in a thread, as a tree of frames. SPDX-License-Identifier: MIT
// Keeps:   a node for each frame, innermost first. Stacks that begin with the same frames share nodes. Nodes are in a
//          ring in the order of their creation, so the nodes of one stack are neighbours. The oldest are overwritten.
// Cost:    2 to 3 ns a frame for a stack in the cache; 40 bytes a node.
// Callers: the thread whose stacks are cached.
// Fails:   a stack whose nodes were overwritten is not found.
// Invariant: a node is reached only from the node below which it was created (numbers are not reused), and only by
//            the return address that is on the live stack. So the rule of the node applies to the live stack.
#ifndef FLK_CALL_TREE_CACHE_H
#define FLK_CALL_TREE_CACHE_H

#include "paths/unwind_step.h"

#ifdef FLK_HAS_ELF
// One step of a walk: the rule, and the return address that it found.
typedef struct flk_call_tree_step {
    uintptr_t returns_to;
    flk_cfi_rule how;
} flk_call_tree_step;

typedef struct flk_call_tree_node {
    uintptr_t address;  // return address; of a root: the first position
    flk_cfi_rule how;   // the step to the caller; unused in the last node
    uint32_t number;    // > 0; rises
    uint32_t parent;    // the number of the parent, smaller; 0: a root
    uint32_t last;      // the number of the child found last
    // Of the last node of a stack: its path. Of a root: the path of Python
    // frames that native frames extend. Else FLK_PATH_NONE.
    uint32_t path;
} flk_call_tree_node;

enum { FLK_CALL_TREE_PLACES = 2 * FLK_NATIVE_NODES };

// Initially zeroed.
typedef struct flk_call_tree_cache {
    uint32_t number;                        // of the last node
    uint32_t places[FLK_CALL_TREE_PLACES];  // numbers, by parent and address
    flk_call_tree_node nodes[FLK_NATIVE_NODES];  // by number
} flk_call_tree_cache;

// Follows the live stack from a position through the cache. Returns its path, or
// FLK_PATH_NONE if the stack is not in the cache.
uint32_t flk_call_tree_cache_follow(flk_call_tree_cache *cache,
                                    const flk_registers *from, uint32_t base);
// Adds a stack: `count` (> 0) steps from a position, and its path.
void flk_call_tree_cache_add(flk_call_tree_cache *cache,
                             const flk_registers *from, uint32_t base,
                             const flk_call_tree_step *steps, uint32_t count,
                             uint32_t path);
// True if numbers run out. The owner must zero the cache then.
static inline bool
flk_call_tree_cache_is_full(const flk_call_tree_cache *cache) {
    return cache->number > UINT32_MAX - FLK_NATIVE_NODES;
}
bool flk_call_tree_cache_check(const flk_call_tree_cache *cache);
#endif
#endif
