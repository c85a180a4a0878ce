// lost.h - which live blocks are lost, and what holds the others.           SPDX-License-Identifier: MIT
// Keeps:   figures of the searches so far.
// Cost:    all threads that allocate wait while the registry is locked and the child is made: some milliseconds.
//          Then a child searches its copy of the memory (reach/search.h), and the caller waits for it.
// Callers: any thread outside the guard, with or without the GIL. In CPython the GIL is held while the child is made.
// Fails:   a negative FLK_LOST_... and an empty result. Nothing else changes.
// Invariant: the child ends before the call returns.
#ifndef FLK_LOST_H
#define FLK_LOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

typedef struct flk_lost {
    uint64_t count;  // of blocks; the arrays are described in reach/search.h
    const flk_block *blocks;
    const uint8_t *verdicts;
    const uint32_t *held_by, *ends;
    const flk_holder *holders;
    uint64_t holder_count;
    uint64_t taken_wall_ns;
    uint64_t words;           // read by the search
    uint64_t standing_ns;     // in which allocations waited
    uint64_t whole_ns;        // of the call
    uint64_t memory_bytes;    // the most that was mapped, result included
    uint32_t moving_threads;  // whose registers are not known
    uint32_t is_weak;         // searched by this process itself
    void *pages;
    uint64_t page_bytes;
} flk_lost;

// Judges the live blocks of a scope and of the scopes inside it from a sequence
// number on. All live blocks take part in the search. `may_fork` false: this
// process searches its own memory, which other threads may change meanwhile.
// `lost_only`: the search ends when all of these blocks are held, and what holds
// one need not be the nearest. Returns FLK_LOST_FOUND or an error.
int flk_lost_find(uint32_t view, uint64_t since, bool inherited, bool may_fork,
                  bool lost_only, uint64_t time_max_ms, flk_lost *out);
void flk_lost_drop(flk_lost *lost);

// Searches so far, and the most that one of them took.
typedef struct flk_lost_figures {
    uint64_t count, bytes_max, whole_ns_max, standing_ns_max;
} flk_lost_figures;
void flk_lost_read(flk_lost_figures *out);

#endif
