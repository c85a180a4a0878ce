// references.h - references of handles that have more than one.          SPDX-License-Identifier: MIT
// Keeps:   a table from address to count. An object with one reference, as most have, is not in it.
// Cost:    O(1) and one lock; a load while no object has more than one reference. 16 bytes an entry at a load of 3/8 to
//          3/4. There are no tombstones. The table shrinks.
// Callers: any thread, inside the guard; also with a shard locked. Lock rank: FLK_RANK_REFERENCES.
// Fails:   flk_references_add returns false without memory; the reference is not counted then.
// Invariant: each entry is found from its address. Checked by flk_references_check().
#ifndef FLK_REFERENCES_H
#define FLK_REFERENCES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

// Objects with more than one reference. Relaxed loads suffice: a thread that got
// an object sees at least the count from when its references were added.
extern atomic_uint flk_references_objects;

// Adds a reference to the object at the address.
bool flk_references_add(uint64_t address);
// Drops one. False: the object has only one, which is not dropped.
bool flk_references_drop(uint64_t address);
// Leaves one reference: the object is gone, or another one is there now.
void flk_references_forget(uint64_t address);

bool flk_references_check(void);
void flk_references_lock_all(void);
void flk_references_unlock_all(void);

#endif
