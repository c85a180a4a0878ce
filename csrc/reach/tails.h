// tails.h - words in parts of arrays that their owner, a list or a deque, does not use.   SPDX-License-Identifier: MIT
// Keeps:   the addresses of words that lead to blocks and may lie in such a part, and the root of each; mapped pages.
// Cost:    16 bytes a word. If there are any, the objects of the two sizes in Python's heap are looked at once more.
// Callers: the child that looks for pointers: nothing changes in its memory.
// Fails:   without room a word is not kept: it then counts at once.
// Invariant: only a word behind the last item of a list, or around the items of a deque, is dropped. All others count.
// Source:  PyListObject of CPython 3.10 to 3.15 (Include/cpython/listobject.h), dequeobject (Modules/_collectionsmodule.c).
#ifndef FLK_TAILS_H
#define FLK_TAILS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "reach/areas.h"
#include "reach/contents.h"

enum { FLK_TAILS_MAX = 1 << 16 };  // words

typedef struct flk_tails {
    flk_pair *words;  // address, and the number of the root
    size_t count;
} flk_tails;

bool flk_tails_open(flk_tails *tails);
void flk_tails_drop(flk_tails *tails);
size_t flk_tails_bytes(void);
// Keeps a word of a root for later; false if there is no room.
bool flk_tails_keep(flk_tails *tails, uintptr_t at, uint32_t root);
// Drops what no object uses. The rest is in `words`.
void flk_tails_settle(flk_tails *tails, const flk_areas *areas,
                      flk_contents *contents);

#endif
