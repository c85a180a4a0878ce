// path_counts.c - sparse counts by path. Contracts: tracker/path_counts.h, api/api.h.  SPDX-License-Identifier: MIT
#include "tracker/path_counts.h"

#include "base/config.h"
#include "paths/callpath.h"
#include "tracker/tracker.h"

enum { PIECE = 4096, PIECES = FLK_PATHS_MAX / PIECE };

typedef struct counts {
    atomic_ullong blocks, bytes;  // relaxed
} counts;

_Static_assert(PIECE * sizeof(counts) % 65536 == 0, "whole pages");

atomic_int flk_path_counts_requests;
// Each entry is set once and never cleared, since a hook may be about to add.
static _Atomic(counts *) pieces[PIECES];

static counts *piece_made(_Atomic(counts *) *place) {
    FLK_ASSERT(place != NULL);
    counts *made = flk_platform_pages_map(PIECE * sizeof(counts),
                                          flk_platform_page_bytes());
    counts *there = NULL;
    if (!made || atomic_compare_exchange_strong(place, &there, made))
        return made;
    flk_platform_pages_unmap(made, PIECE * sizeof(counts));
    return there;
}

FLK_NOINLINE void flk_path_counts_add_slow(uint32_t path, uint64_t size_bytes) {
    FLK_ASSERT(path != FLK_PATH_NONE);
    counts *piece = NULL;
    if (path / PIECE < PIECES) {
        _Atomic(counts *) *place = &pieces[path / PIECE];
        piece = atomic_load_explicit(place, memory_order_acquire);
        if (!piece)
            piece = piece_made(place);
    }
    if (!piece) {
        flk_tracker_count(&flk_tracker_counted.dropped);
        return;
    }
    counts *c = &piece[path % PIECE];
    atomic_fetch_add_explicit(&c->blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->bytes, size_bytes, memory_order_relaxed);
}

// --- for Python --------------------------------------------------------
void flk_path_counts_request(int change) {
    FLK_ASSERT(change == 1 || change == -1);
    atomic_fetch_add(&flk_path_counts_requests, change);
}

static size_t read_piece(counts *piece, uint32_t first, flk_path_counts *out,
                         size_t max) {
    FLK_ASSERT(piece != NULL && first % PIECE == 0);
    FLK_ASSERT(out != NULL || max == 0);
    size_t found = 0;
    for (uint32_t i = 0; i < PIECE; i++) {
        uint64_t blocks =
            atomic_load_explicit(&piece[i].blocks, memory_order_relaxed);
        if (blocks == 0)
            continue;
        if (found < max)
            out[found] =
                (flk_path_counts){.path = first + i,
                                  .blocks = blocks,
                                  .bytes = atomic_load_explicit(
                                      &piece[i].bytes, memory_order_relaxed)};
        found++;
    }
    return found;
}

size_t flk_path_counts_read(flk_path_counts *out, size_t max) {
    FLK_ASSERT(out != NULL || max == 0);
    size_t found = 0;
    // Path ids are assigned in ascending order.
    uint32_t used = flk_callpath_count() / PIECE + 1;
    for (uint32_t i = 0; i < PIECES && i <= used; i++) {
        counts *piece = atomic_load_explicit(&pieces[i], memory_order_acquire);
        if (piece)
            found +=
                read_piece(piece, i * PIECE, out + (found < max ? found : max),
                           found < max ? max - found : 0);
    }
    return found;
}
