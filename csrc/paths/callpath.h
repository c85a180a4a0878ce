// callpath.h - the tree of call paths: a number for each distinct path.  SPDX-License-Identifier: MIT
// Keeps:   a node for each (parent, site). A node is never moved, freed or renumbered. The id 0 is the empty path.
// Cost:    flk_callpath_child: one probe and one of FLK_PATH_SHARDS locks. Reading by id takes no lock. About 16 bytes
//          a node, its place in the index included.
// Callers: any thread; the GIL is not needed. Functions that take a lock set the guard of the thread meanwhile. Lock
//          rank: FLK_RANK_CALLPATH.
// Fails:   at the limit of nodes or without memory: FLK_PATH_NONE, and the caller counts a drop. The tree is unchanged.
// Invariant: the parent of a node has a smaller id. Each node is in the index of its shard once.
//            Checked by flk_callpath_check(). Why a tree and not a table of whole paths: csrc/README.md.
#ifndef FLK_CALLPATH_H
#define FLK_CALLPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void flk_callpath_init(void);  // once, before anything else here
// The path that extends `parent` by the frame `site`. The parent of an outermost
// frame is FLK_PATH_EMPTY.
uint32_t flk_callpath_child(uint32_t parent, uint32_t site);
// Parent and innermost site of a path. False for FLK_PATH_EMPTY and for ids that
// do not exist.
bool flk_callpath_node(uint32_t path, uint32_t *parent, uint32_t *site);
// Fills in at most `sites_max` sites of a path, innermost first, and returns how
// many it has.
size_t flk_callpath_sites(uint32_t path, uint32_t *sites, size_t sites_max);

uint32_t flk_callpath_count(void);
// O(nodes); takes all locks.
bool flk_callpath_check(void);
void flk_callpath_lock_all(void);
void flk_callpath_unlock_all(void);

#endif
