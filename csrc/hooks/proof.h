// proof.h - whether the allocator itself shows that an address is not allocated. SPDX-License-Identifier: MIT
// Keeps:   what was learned about the allocator of the process, once: glibc's mark of a cached free block, and the
//          function that tells the usable size of a block.
// Cost:    some microseconds, for frees that are suspected to be misuse only; one block, but for each 64th time, where
//          addresses like this were suspected in vain eight times. is_strange: a load.
// Callers: hooks, in any thread, outside the guard and without a lock, before the memory is given to the C free. What
//          was freed and what is live may be requested from the allocator and given back.
// Fails:   NONE where nothing is shown. Other allocators than glibc's show less.
// Source:  malloc/malloc.c of glibc 2.26 to 2.41: the size field before a block with its flags; the key in the second
//          word of a block in a thread's cache, which is cleared when the block is given out.
#ifndef FLK_PROOF_H
#define FLK_PROOF_H

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
typedef enum flk_proof {
    FLK_PROOF_NONE,
    FLK_PROOF_LIKELY,  // the mark of a free block, which may be a stale one;
                       // or inside a large block that the books have as live
    FLK_PROOF_FREE,    // no live block begins at the address
} flk_proof;

// No page is smaller.
enum { FLK_PROOF_PAGE_BYTES = 4096 };

// Learns about the allocator. Before the first attach, with no lock held.
void flk_proof_start(void);

// Whether no live block begins at the address, where a block of this size was
// freed before. `stub` is that of the free now. `is_mark_fresh`: since the block
// was made, no thread ended, whose cache may leave stale marks behind.
flk_proof flk_proof_of_free(uint32_t stub, uintptr_t address,
                            uint64_t size_bytes, bool is_mark_fresh);
// Whether no block begins at the address, which lies inside a recorded block
// that begins at `start`.
flk_proof flk_proof_of_inside(uint32_t stub, uintptr_t address, uintptr_t start,
                              uint64_t size_bytes);

// Whether the provider of this stub has a malloc that is not glibc's.
bool flk_proof_may_carve(uint32_t stub);

extern atomic_bool flk_proof_has_chunks;  // relaxed: glibc's malloc
// Whether this may be a word that glibc keeps before a block: 8 is no flag, and
// a size is at least 32 and below 2^40.
#define FLK_PROOF_NO_SIZE (~((UINT64_C(1) << 40) - 1) | 8)
static inline bool flk_proof_is_size(uintptr_t word) {
    return !((word - 32) & FLK_PROOF_NO_SIZE);
}
// As well, and the flag 1 is set: the block before it is in use.
static inline bool flk_proof_is_size_behind_block(uintptr_t word) {
    return !((word - 33) & (FLK_PROOF_NO_SIZE | 1));
}

// True if the address looks unlike that of a block of this process's allocator.
// Reads the word before it, as the C free will do.
static FLK_HOT bool flk_proof_is_strange(uintptr_t address) {
    FLK_ASSERT(address != 0);
    if (FLK_UNLIKELY(address & 7))
        return true;
    return atomic_load_explicit(&flk_proof_has_chunks, memory_order_relaxed) &&
           FLK_UNLIKELY(address & 15 ||
                        !flk_proof_is_size(((const uintptr_t *)address)[-1]));
}

// True if the address looks like that of a live block of glibc: there is a chunk
// behind it, which says so. False also if that is in another page, which may
// not be readable.
static FLK_HOT bool flk_proof_is_plain(uintptr_t address) {
    FLK_ASSERT(address != 0);
    if (!atomic_load_explicit(&flk_proof_has_chunks, memory_order_relaxed) ||
        FLK_UNLIKELY(address & 15))
        return false;
    uintptr_t size = ((const uintptr_t *)address)[-1];
    if (FLK_UNLIKELY(!flk_proof_is_size(size)))
        return false;
    // Where the next block would begin.
    uintptr_t next = address + (size & ~(uintptr_t)7);
    if ((next ^ address) & ~(uintptr_t)(FLK_PROOF_PAGE_BYTES - 1))
        return false;
    return flk_proof_is_size_behind_block(((const uintptr_t *)next)[-1]);
}
#endif
#endif
