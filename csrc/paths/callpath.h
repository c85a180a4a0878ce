// callpath.h - tree of call paths, one small id for each distinct path.  SPDX-License-Identifier: MIT
// Keeps:   a node per (parent, site); a node is never moved, freed or renumbered. Id 0 is the empty path.
// Cost:    child one probe and one lock of FLK_PATH_SHARDS; reading by id no lock; 16 bytes a node and index.
// Callers: any thread, inside the guard, GIL not needed. Lock rank: FLK_RANK_CALLPATH.
// Fails:   node limit or no page left: returns FLK_PATH_NONE and the caller counts a drop; the tree is unchanged.
// Invariant: a node's parent has a smaller id; each node is in the index of its shard, once.
//            Checked by flk_callpath_check(). Why a tree, not a table of whole paths: csrc/README.md.
#ifndef FLK_CALLPATH_H
#define FLK_CALLPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void flk_callpath_init(void);  // once, before all else
// The node below `parent` (FLK_PATH_EMPTY for an outermost frame) for `site`.
uint32_t flk_callpath_child(uint32_t parent, uint32_t site);
// Parent and site of a node; false for FLK_PATH_EMPTY and unknown ids.
bool flk_callpath_node(uint32_t path, uint32_t *parent, uint32_t *site);
// The sites of a path, innermost first; returns how many it has, which may
// be more than `sites_max`.
size_t flk_callpath_sites(uint32_t path, uint32_t *sites, size_t sites_max);

uint32_t flk_callpath_count(void);
bool flk_callpath_check(void);
void flk_callpath_lock_all(void);
void flk_callpath_unlock_all(void);

#endif
