// call_tree_cache.h - the native stacks met by a thread, as a tree that a live stack is led along.  SPDX-License-Identifier: MIT
// Keeps:   a node for each frame, innermost first; stacks with the same frames so far share them. Nodes stand in a
//          ring in the order they were made, so those of one stack are neighbours; the oldest are overwritten.
// Cost:    2 to 3 ns a frame along a stack met before; 40 bytes a node.
// Callers: the thread whose stacks they are.
// Fails:   what was overwritten is not found.
// Invariant: a node is reached only from the very node it was made below (its number is not given out again), and
//            only by the return address that the live stack has there. Hence its rule is the right one.
#ifndef FLK_CALL_TREE_CACHE_H
#define FLK_CALL_TREE_CACHE_H

#include "paths/unwind_step.h"

#ifdef FLK_HAS_ELF
// One caller found: by which rule, and where it returned to.
typedef struct flk_call_tree_step {
    uintptr_t returns_to;
    flk_cfi_rule how;
} flk_call_tree_step;

typedef struct flk_call_tree_node {
    uintptr_t address;  // returned to; of a root: where the walk begins
    flk_cfi_rule how;   // to the caller; not at the end of a way
    uint32_t number;    // rises, > 0
    uint32_t parent;    // its number, smaller; 0: a root
    uint32_t last;      // the number of the child met last
    uint32_t path;      // at the end of a way; else FLK_PATH_NONE; of a
    // root: the path of Python frames below it
} flk_call_tree_node;

enum { FLK_CALL_TREE_PLACES = 2 * FLK_NATIVE_NODES };

// Zeroed at first.
typedef struct flk_call_tree_cache {
    uint32_t number;                        // of the last node
    uint32_t places[FLK_CALL_TREE_PLACES];  // numbers, by parent and address
    flk_call_tree_node nodes[FLK_NATIVE_NODES];  // by number
} flk_call_tree_cache;

// The path at the end of the way that the stack from here is; or
// FLK_PATH_NONE.
uint32_t flk_call_tree_cache_follow(flk_call_tree_cache *ways,
                                    const flk_registers *from, uint32_t base);
// `count` > 0 steps from here lead to the end of a way of this path.
void flk_call_tree_cache_add(flk_call_tree_cache *ways,
                             const flk_registers *from, uint32_t base,
                             const flk_call_tree_step *steps, uint32_t count,
                             uint32_t path);
// No numbers are left: zero it.
static inline bool
flk_call_tree_cache_are_full(const flk_call_tree_cache *ways) {
    return ways->number > UINT32_MAX - FLK_NATIVE_NODES;
}
bool flk_call_tree_cache_check(const flk_call_tree_cache *ways);
#endif
#endif
