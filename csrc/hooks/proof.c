// proof.c - questions to the allocator. Contract: hooks/proof.h.            SPDX-License-Identifier: MIT
#include "hooks/proof.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

#include "base/config.h"
#include "base/hash.h"
#include "elf/loaded.h"
#include "hooks/report.h"

// Flags in the lower bits of a size field, and its smallest and largest size.
enum { PREVIOUS_IN_USE = 1, IS_MAPPED = 2, CHUNK_FLAGS = 7, CHUNK_MIN = 32 };
#define CHUNK_MAX ((uintptr_t)1 << 40)
// Allocators with size classes give larger blocks pages of their own.
#define LARGE_BYTES ((uint64_t)1 << 13)

// Set once, before the first attach.
static struct {
    atomic_bool is_started;
    uintptr_t allocate;  // the malloc that this module's calls reach
    uintptr_t key;       // glibc's mark of cached free blocks; 0: not known
    size_t (*usable)(void *);  // NULL: the allocator does not have it
    // Answers in vain, by address. Relaxed: a lost count does no harm.
    atomic_ushort in_vain[FLK_PROOF_PLACES];
} proof;
atomic_bool flk_proof_has_chunks;

// --- reading memory ------------------------------------------------------
// The kernel reads eight bytes of the set before it finds that there is no
// such operation. So nothing changes, and a signal handler may do this.
static bool is_readable(uintptr_t address) {
    int saved = errno;
    errno = 0;
    long done = syscall(SYS_rt_sigprocmask, ~0, address, NULL, 8);
    bool is_fault = done < 0 && errno == EFAULT;
    errno = saved;
    return !is_fault;
}

// A word of memory that may have been freed.
static uintptr_t word_at(uintptr_t address) {
    FLK_ASSERT(address % sizeof(uintptr_t) == 0);
    return *(volatile const uintptr_t *)address;
}

// --- learning ------------------------------------------------------------
static void take_malloc(const flk_elf_export *one, void *address) {
    if (one->symbol->st_shndx != SHN_UNDEF && strcmp(one->name, "malloc") == 0)
        *(uintptr_t *)address = one->symbol->st_value;
}

static int find_malloc(struct dl_phdr_info *object, size_t bytes,
                       void *address) {
    flk_elf elf;
    (void)bytes;
    if (!flk_elf_open(&elf, object->dlpi_addr, object->dlpi_phdr,
                      object->dlpi_phnum) ||
        !flk_elf_defines(&elf, "malloc"))
        return 0;
    flk_elf_each_export(&elf, take_malloc, address);
    *(uintptr_t *)address += object->dlpi_addr;
    return 1;
}

// The malloc that calls reach: that of the first object that defines one. A
// program with a fixed address that uses the address of malloc, such as Debian's
// Python, gives all of the process the address of a jump of its own instead.
static uintptr_t malloc_of_process(void) {
    uintptr_t address = 0;
    return dl_iterate_phdr(find_malloc, &address) && address
               ? address
               : (uintptr_t)malloc;
}

static bool is_same_object(uintptr_t one, uintptr_t other) {
    flk_loaded first, second;
    return flk_loaded_at(one, &first) && flk_loaded_at(other, &second) &&
           first.begin == second.begin;
}

#if defined(__GLIBC__)
// The mark that a free of this size leaves behind; 0: none.
static uintptr_t mark_of(size_t size_bytes) {
    FLK_ASSERT(size_bytes >= 2 * sizeof(uintptr_t));
    uintptr_t block = (uintptr_t)malloc(size_bytes);
    if (!block)
        return 0;
    uintptr_t size = word_at(block - sizeof size) & ~(uintptr_t)CHUNK_FLAGS;
    bool has_chunk = size >= size_bytes && size < size_bytes + CHUNK_MIN;
    ((volatile uintptr_t *)block)[1] = 0;
    free((void *)block);
    uintptr_t mark = word_at(block + sizeof mark);
    uintptr_t again = (uintptr_t)malloc(size_bytes);
    bool is_cleared = again == block && word_at(block + sizeof mark) == 0;
    free((void *)again);
    return has_chunk && is_cleared ? mark : 0;
}

static int is_of_tool(struct dl_phdr_info *object, size_t bytes, void *unused) {
    const char *name = strstr(object->dlpi_name, "/vgpreload_");
    (void)bytes, (void)unused;
    return name && strncmp(name, "/vgpreload_core", 15) != 0;
}

// valgrind runs a malloc of its own under the address of glibc's. Tools that do
// not (callgrind) preload nothing but valgrind's core.
static bool is_replaced(void) {
    return dlsym(RTLD_DEFAULT, "_vgnU_freeres") &&
           dl_iterate_phdr(is_of_tool, NULL) != 0;
}

static void learn(void) {
    if (!is_same_object(proof.allocate, (uintptr_t)gnu_get_libc_version) ||
        is_replaced())
        return;
    uintptr_t mark = mark_of(88);
    if (mark && mark == mark_of(200))
        proof.key = mark;
    atomic_store(&flk_proof_has_chunks, true);
}
#else
static void learn(void) {}
#endif

void flk_proof_start(void) {
    FLK_ASSERT(!atomic_load(&flk_proof_has_chunks) || proof.allocate);
    if (atomic_exchange(&proof.is_started, true))
        return;
    proof.allocate = malloc_of_process();
    uintptr_t usable = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc_usable_size");
    if (usable && is_same_object(proof.allocate, usable))
        proof.usable = (size_t (*)(void *))usable;
    learn();
}

// --- the allocator of a stub -----------------------------------------------
// That of a provider which has only operators is the one of the process. -1:
// not known.
static int allocator_of(uint32_t stub) {
    unsigned own = stub % FLK_PROVIDERS_MAX;
    if (flk_stub_table_original_of(own, FLK_FN_MALLOC))
        return (int)own;
    for (unsigned d = 0; d < FLK_PROVIDERS_MAX; d++)
        if (flk_stub_table_original_of(d, FLK_FN_MALLOC) == proof.allocate)
            return (int)d;
    return -1;
}

static bool is_known(int allocator) {
    return allocator >= 0 &&
           flk_stub_table_original_of((unsigned)allocator, FLK_FN_MALLOC) ==
               proof.allocate;
}

bool flk_proof_may_carve(uint32_t stub) {
    unsigned own = stub % FLK_PROVIDERS_MAX;
    return flk_stub_table_original_of(own, FLK_FN_MALLOC) &&
           !(is_known((int)own) && atomic_load(&flk_proof_has_chunks));
}

// --- glibc's chunks ------------------------------------------------------
// The size of the chunk whose block would begin here; 0: it is none.
static uintptr_t chunk_size(uintptr_t block) {
    if (block % 16 || !is_readable(block - 16) || !is_readable(block - 8))
        return 0;
    uintptr_t size = word_at(block - 8);
    bool is_good = !(size & 8) && size >= CHUNK_MIN && size < CHUNK_MAX;
    return is_good ? size & ~(uintptr_t)CHUNK_FLAGS : 0;
}

// Whether the chunk behind this one says that this one is in use. A chunk with
// a mapping of its own has none behind it, and fills whole pages together with
// what lies before it. `is_known` is false if this is no chunk after all.
static bool is_in_use(uintptr_t block, uintptr_t size, bool *is_known) {
    FLK_ASSERT(size >= CHUNK_MIN && is_known != NULL);
    *is_known = true;
    if (word_at(block - 8) & IS_MAPPED) {
        uintptr_t page = flk_platform_page_bytes() - 1;
        uintptr_t before = word_at(block - 16);
        *is_known = !((block - 16 - before) & page || (before + size) & page);
        return true;
    }
    uintptr_t next = block + size;
    *is_known = chunk_size(next) != 0;
    return !*is_known || word_at(next - 8) & PREVIOUS_IN_USE;
}

static flk_proof ask_chunk(uintptr_t block, bool is_mark_fresh) {
    bool is_known;
    uintptr_t size = chunk_size(block);
    if (!size)
        return FLK_PROOF_NONE;
    if (!is_in_use(block, size, &is_known))
        return FLK_PROOF_FREE;
    if (!proof.key || !is_readable(block + 8) ||
        word_at(block + 8) != proof.key)
        return FLK_PROOF_NONE;
    return is_mark_fresh ? FLK_PROOF_FREE : FLK_PROOF_LIKELY;
}

// --- any allocator -------------------------------------------------------
// The size of the next request. An aligned block may be of a larger class than
// its size, and a large one may be a part of a larger free range by now.
static uint64_t bytes_after(uint64_t bytes, uint32_t count) {
    FLK_ASSERT(bytes > 0 && count > 0);
    if (count % (FLK_PROOF_BLOCKS_MAX / 4))
        return bytes;
    uint64_t unit = UINT64_C(16) << count / (FLK_PROOF_BLOCKS_MAX / 4);
    return bytes >= LARGE_BYTES ? bytes * 2 : (bytes + unit - 1) & ~(unit - 1);
}

// An allocator that gives out a block around an address has no live block
// there. Most give out first what was freed last. The blocks go back in the reverse
// order, so that the allocator has them as before.
static bool gives_out(unsigned allocator, uintptr_t address,
                      uint64_t size_bytes, bool is_exact, uint32_t blocks_max) {
    FLK_ASSERT(blocks_max > 0 && blocks_max <= FLK_PROOF_BLOCKS_MAX);
    flk_function_of_3 take =
        (flk_function_of_3)flk_stub_table_original_of(allocator, FLK_FN_MALLOC);
    flk_function_of_3 give =
        (flk_function_of_3)flk_stub_table_original_of(allocator, FLK_FN_FREE);
    uintptr_t taken[FLK_PROOF_BLOCKS_MAX];
    uint32_t count = 0;
    uint64_t bytes = size_bytes + !size_bytes, sum = 0;
    bool is_found = false;
    int saved = errno;
    if (!take || !give)
        return false;
    while (!is_found && count < blocks_max && sum < FLK_PROOF_BYTES_MAX) {
        uintptr_t block = take(bytes, 0, 0);
        if (!block)
            break;
        taken[count++] = block;
        flk_report_count(FLK_HOOK_PROOF_BLOCKS);
        is_found = address - block < bytes;
        sum += bytes;
        if (!is_exact || bytes >= LARGE_BYTES)
            bytes = bytes_after(bytes, count);
    }
    while (count > 0)
        give(taken[--count], 0, 0);
    errno = saved;
    return is_found;
}

// Some programs free the same addresses again and again without misuse: a
// watched call frees a block, and code that is not watched gets and frees its
// address. 40 blocks for each of these frees made a program 5 times slower. One
// block still shows what this thread freed last.
static bool asks(unsigned allocator, uintptr_t address, uint64_t size_bytes,
                 bool is_exact) {
    atomic_ushort *in_vain =
        &proof.in_vain[flk_hash_key(address) /
                       (UINT64_MAX / FLK_PROOF_PLACES + 1)];
    unsigned count = atomic_load_explicit(in_vain, memory_order_relaxed);
    bool is_brief =
        count >= FLK_PROOF_IN_VAIN_MAX && count % FLK_PROOF_IN_VAIN_EACH;
    bool is_found = gives_out(allocator, address, size_bytes, is_exact,
                              is_brief ? 1 : FLK_PROOF_BLOCKS_MAX);
    if (is_brief && !is_found)
        flk_report_count(FLK_HOOK_BRIEF_PROOFS);
    atomic_store_explicit(in_vain, is_found ? 0 : (unsigned short)(count + 1),
                          memory_order_relaxed);
    return is_found;
}

flk_proof flk_proof_of_free(uint32_t stub, uintptr_t address,
                            uint64_t size_bytes, bool is_mark_fresh) {
    FLK_ASSERT(address != 0);
    flk_proof found = FLK_PROOF_NONE;
    int allocator = allocator_of(stub);
    bool has_chunks = is_known(allocator) && atomic_load(&flk_proof_has_chunks);
    if (!is_readable(address))
        return FLK_PROOF_FREE;  // its pages went back to the system
    if (has_chunks) {
        found = ask_chunk(address, is_mark_fresh);
        // The chunk may be larger than was requested, and is kept by its size.
        uintptr_t size = chunk_size(address);
        if (size > size_bytes && size - size_bytes < 3 * CHUNK_MIN)
            size_bytes = size - sizeof size;
    }
    if (found != FLK_PROOF_FREE && allocator >= 0 &&
        asks((unsigned)allocator, address, size_bytes, has_chunks))
        return FLK_PROOF_FREE;
    return found;
}

// A block that begins here would have a chunk of its own.
static bool is_chunk(uintptr_t address) {
    bool is_known;
    uintptr_t size = chunk_size(address);
    return size && is_in_use(address, size, &is_known) && is_known;
}

// Allocators with size classes keep blocks of one class side by side, so that
// none begins inside another.
static bool is_in_class(uintptr_t address, uintptr_t start,
                        uint64_t size_bytes) {
    FLK_ASSERT(proof.usable != NULL && size_bytes < LARGE_BYTES);
    size_t usable = proof.usable((void *)start);
    return usable >= size_bytes && address - start < usable &&
           proof.usable((void *)address) == usable;
}

static flk_proof ask_classes(uintptr_t address, uintptr_t start,
                             uint64_t size_bytes) {
    if (size_bytes >= LARGE_BYTES)
        return FLK_PROOF_LIKELY;  // asking could end the process
    return proof.usable && is_in_class(address, start, size_bytes)
               ? FLK_PROOF_FREE
               : FLK_PROOF_NONE;
}

flk_proof flk_proof_of_inside(uint32_t stub, uintptr_t address, uintptr_t start,
                              uint64_t size_bytes) {
    FLK_ASSERT(start < address && address - start < size_bytes);
    if (address % 8)
        return FLK_PROOF_FREE;
    if (!is_known(allocator_of(stub)))
        return FLK_PROOF_NONE;
    if (!atomic_load(&flk_proof_has_chunks))
        return ask_classes(address, start, size_bytes);
    return is_chunk(address) ? FLK_PROOF_NONE : FLK_PROOF_FREE;
}
#endif
