// pools.h - which blocks of a pool of Python's small object allocator live. SPDX-License-Identifier: MIT
// Keeps:   the sizes of objects of some types of Python.
// Cost:    reads the list of free blocks of a pool, at most 1,021.
// Callers: the search for pointers, with a copy of the memory or the memory itself.
// Fails:   false if the memory is no pool, or a pool that another thread is changing.
// Invariant: a pool is recognised only if its numbers agree in every way: the last offset follows from the size, and
//            the live and the free blocks are together as many as were ever handed out. Memory that is no pool does
//            not look so by chance.
//          An object is recognised by its type, a plausible count of references and the size of its block.
// Source:  struct pool_header, unchanged in CPython 3.10 to 3.15 (Include/internal/pycore_obmalloc.h); PyTypeObject and
//          what lies before an object (_PyType_PreHeaderSize) of 3.10 to 3.15; PyDictValues of 3.13 to 3.15, behind it.
#ifndef FLK_POOLS_H
#define FLK_POOLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/values.h"

enum { FLK_POOL_HEAD = 48, FLK_POOL_STEP = 16 };
enum { FLK_POOL_BLOCKS_MAX = FLK_PIECE_BYTES / FLK_POOL_STEP };

typedef struct flk_pool {
    uint32_t block_bytes;
    uint32_t count;  // blocks that were ever handed out: the first ones
    uint64_t free_bits[FLK_POOL_BLOCKS_MAX / 64];
} flk_pool;

// `copy` is what lies at `address`, which is a multiple of FLK_PIECE_BYTES.
bool flk_pools_read(const void *copy, uintptr_t address, flk_pool *out);

static inline bool flk_pools_is_free(const flk_pool *pool, uint32_t block) {
    return pool->free_bits[block / 64] >> block % 64 & 1;
}
// The types of Python whose objects are known. Called before a search, with all
// of them; no search may run. At most FLK_PYTHON_TYPES_MAX are kept.
void flk_pools_set_types(const flk_python_type *types, uint32_t count);
// The types whose objects may own something small (flk_pools_owned), at most
// FLK_POOLS_OWNERS_MAX. Returns their number.
enum { FLK_POOLS_OWNERS_MAX = 8 };
uint32_t flk_pools_owner_types(uintptr_t *types);
// The functions of all classes that a class statement makes, unless these say
// otherwise: tp_dealloc and tp_alloc. 0: no class is known.
void flk_pools_set_classes(uint64_t dealloc, uint64_t alloc);
// An address in the data of the interpreter; 0 if none is known.
uintptr_t flk_pools_interpreter(void);

// Something small in a block of malloc: nothing behind the first bytes was ever
// written by its owner.
typedef struct flk_small {
    uintptr_t address;
    uint32_t used;  // bytes: 0 for the state of a module that has none, or
                    // FLK_SMALL_LOCK
} flk_small;
enum { FLK_SMALL_LOCK = 16 };
// Whether a block of Python's allocator has an object that owns such a block,
// unless that turns out to be of another size.
bool flk_pools_owned(const void *block, uint32_t block_bytes, flk_small *out);
// Memory of an array that its owner does not use.
typedef struct flk_unused {
    uintptr_t begin, end;
} flk_unused;
enum { FLK_POOLS_UNUSED_MAX = 2 };
// Whether an object in a live block has a field that it does not set and that
// may have what was there before: two words at `place` (CPython 3.14 and later).
bool flk_pools_unset(const void *block, uint32_t block_bytes, uint32_t *place);
enum { FLK_POOLS_UNSET_BYTES = 16 };
// Whether blocks of this pool, of which the head is read, are as large as lists
// or deques.
bool flk_pools_may_own_arrays(const void *pool);
// What the object in a live block has and does not use; returns how many parts.
uint32_t flk_pools_unused(const void *block, uint32_t block_bytes,
                          flk_unused *out);
// What may be the class of the object that begins `before` bytes behind the start
// of the block: an address that may be anything; 0 if it is none.
enum { FLK_POOLS_CLASS_BYTES = 312, FLK_POOLS_BEFORE_MAX = 32 };
uintptr_t flk_pools_class_at(const void *block, uint32_t block_bytes,
                             uint32_t before);
// How many bytes of a block an instance of a class may have pointers in, with
// what lies before the object; 0 if it is no class made by a class statement, if
// another number of bytes lies before its instances, or if the block is of
// another size. `type`: readable memory of FLK_POOLS_CLASS_BYTES.
uint32_t flk_pools_instance_bytes(const void *type, const void *block,
                                  uint32_t block_bytes, uint32_t before);
// How many bytes of a block of Python's allocator or of malloc, from its start,
// may have pointers: less than its size if it is an object of a known type.
uint32_t flk_pools_used(const void *block, uint32_t block_bytes);

#endif
