// copies.h - pointers to allocating functions that programs copied to variables. SPDX-License-Identifier: MIT
// Keeps:   the ranges of writable data to search, in a fixed table; the addresses that are searched for.
// Cost:    reads the pages of these ranges that were ever written: about 0.5 ms a MB.
// Callers: under FLK_RANK_ATTACH. Begin; add, inside one dl_iterate_phdr; set, inside another one, if no object was
//          unloaded in between. Other threads may write to the same words.
// Fails:   ranges for which the table has no room are counted. Copies in the heap, on stacks and in thread-local
//          variables are not found. Without /proc/self/maps nothing is.
// Invariant: a word is changed only while it holds a provider's function or a stub, by compare and swap.
#ifndef FLK_COPIES_H
#define FLK_COPIES_H

#include "hooks/slots.h"

#ifdef FLK_HAS_ELF
typedef struct flk_copies_counts {
    uint32_t hooked;    // held a function before, and a stub now
    uint32_t left_out;  // ranges
} flk_copies_counts;

void flk_copies_begin(void);
void flk_copies_add(const flk_elf *elf, const flk_slots_policy *policy);
flk_copies_counts flk_copies_set(void);
#endif
#endif
