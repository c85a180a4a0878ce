// platform_pages.c - mapped pages of POSIX systems. Contract: base/platform.h.  SPDX-License-Identifier: MIT
#include <errno.h>

#include "base/config.h"
#include "base/platform.h"
#if !defined(_WIN32)
#include <sys/mman.h>
#endif
#include "base/win32.h"
#if defined(__linux__)
#include <sys/ioctl.h>
#endif

static struct {
    atomic_ullong fail_at;  // relaxed: a counter for tests
    atomic_ullong mappings;
} requests;

static bool mapping_must_fail(void) {
    atomic_fetch_add_explicit(&requests.mappings, 1, memory_order_relaxed);
    if (FLK_LIKELY(
            !atomic_load_explicit(&requests.fail_at, memory_order_relaxed)))
        return false;
    return atomic_fetch_sub_explicit(&requests.fail_at, 1,
                                     memory_order_relaxed) == 1;
}

uint64_t flk_platform_pages_fail_at(uint64_t nth) {
    atomic_store_explicit(&requests.fail_at, nth, memory_order_relaxed);
    return atomic_exchange_explicit(&requests.mappings, 0,
                                    memory_order_relaxed);
}

// --- the list of own mappings ---------------------------------------------
// A list of the core's own mappings. An entry has the number of the first page
// of 4 KiB and, in the lower bits, the number of pages; 0 is a free entry. There
// is no lock: a signal handler may map pages, too.
enum { OWN_PAGE_SHIFT = 12, OWN_COUNT_BITS = 20 };
static struct {
    atomic_ullong entries[FLK_OWN_MAPPINGS_MAX];
    atomic_uint top;       // all entries from here on are free
    atomic_uint may_free;  // no entry below this one was free lately
} own;

static uint64_t own_entry(uintptr_t begin, size_t bytes) {
    FLK_ASSERT(bytes >> OWN_PAGE_SHIFT < UINT64_C(1) << OWN_COUNT_BITS);
    return (uint64_t)(begin >> OWN_PAGE_SHIFT) << OWN_COUNT_BITS |
           bytes >> OWN_PAGE_SHIFT;
}

// Changes the first entry `from` to `to`; false if there is none.
static bool own_change(uint32_t first, uint32_t end, uint64_t from, uint64_t to,
                       uint32_t *where) {
    FLK_ASSERT(first <= end && end <= FLK_OWN_MAPPINGS_MAX);
    for (uint32_t i = first; i < end; i++) {
        unsigned long long expected = from;
        if (atomic_load_explicit(&own.entries[i], memory_order_relaxed) ==
                from &&
            atomic_compare_exchange_strong(&own.entries[i], &expected, to)) {
            *where = i;
            return true;
        }
    }
    return false;
}

static void own_note(uint64_t entry) {
    FLK_ASSERT(entry != 0);
    uint32_t at, first = atomic_load(&own.may_free);
    if (!own_change(first, FLK_OWN_MAPPINGS_MAX, 0, entry, &at) &&
        !own_change(0, first, 0, entry, &at))
        return;
    atomic_store(&own.may_free, at + 1);
    uint32_t top = atomic_load(&own.top);
    while (top <= at && !atomic_compare_exchange_weak(&own.top, &top, at + 1))
        ;
}

static void own_forget(uint64_t entry) {
    uint32_t at;
    if (own_change(0, atomic_load(&own.top), entry, 0, &at) &&
        atomic_load(&own.may_free) > at)
        atomic_store(&own.may_free, at);
}

// Calls for each part of a mapping that fits into one entry.
static void own_each(void *pages, size_t bytes, void (*each)(uint64_t entry)) {
    const size_t most = ((size_t)1 << (OWN_PAGE_SHIFT + OWN_COUNT_BITS)) -
                        ((size_t)1 << OWN_PAGE_SHIFT);
    uintptr_t at = (uintptr_t)pages;
    FLK_ASSERT(at % ((size_t)1 << OWN_PAGE_SHIFT) == 0);
    while (bytes > 0) {
        size_t part = bytes < most ? bytes : most;
        each(own_entry(at, part));
        at += part;
        bytes -= part;
    }
}

size_t flk_platform_pages_own(flk_pair *out, size_t max) {
    FLK_ASSERT(out || max == 0);
    size_t count = 0;
    uint32_t top = atomic_load(&own.top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t entry = atomic_load(&own.entries[i]);
        if (!entry)
            continue;
        uint64_t pages = entry & ((UINT64_C(1) << OWN_COUNT_BITS) - 1);
        uint64_t begin = entry >> OWN_COUNT_BITS << OWN_PAGE_SHIFT;
        if (count < max)
            out[count] = (flk_pair){begin, begin + (pages << OWN_PAGE_SHIFT)};
        count++;
    }
    return count;
}

// --- mapping ----------------------------------------------------------------
static void unmap(void *pages, size_t bytes) {
    if (bytes > 0 && munmap(pages, bytes) != 0) {
        if (errno != ENOMEM)
            flk_platform_fatal("munmap failed", __FILE__, __LINE__);
        // At the system's limit of mappings no mapping can be split. The
        // memory is returned, the addresses are lost.
        madvise(pages, bytes, MADV_DONTNEED);
    }
}

void *flk_platform_pages_map(size_t bytes, size_t alignment) {
    FLK_ASSERT(bytes > 0 && bytes % flk_platform_page_bytes() == 0);
    FLK_ASSERT(alignment > 0 && (alignment & (alignment - 1)) == 0);
    if (mapping_must_fail())
        return NULL;
    int saved = errno;
    size_t padded =
        alignment > flk_platform_page_bytes() ? bytes + alignment : bytes;
    char *pages = mmap(NULL, padded, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    if (pages == MAP_FAILED)
        return NULL;
    if (padded > bytes) {
        // Unmap what lies before and behind the aligned part.
        size_t before = (size_t)(-(uintptr_t)pages & (alignment - 1));
        unmap(pages, before);
        unmap(pages + before + bytes, alignment - before);
        errno = saved;
        pages += before;
    }
    own_each(pages, bytes, own_note);
    return pages;
}

void *flk_platform_pages_share(size_t bytes) {
    FLK_ASSERT(bytes > 0 && bytes % flk_platform_page_bytes() == 0);
    if (mapping_must_fail())
        return NULL;
    int saved = errno;
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    if (pages == MAP_FAILED)
        return NULL;
    own_each(pages, bytes, own_note);
    return pages;
}

void flk_platform_pages_unmap(void *pages, size_t bytes) {
    FLK_ASSERT((uintptr_t)pages % flk_platform_page_bytes() == 0);
    int saved = errno;
    own_each(pages, bytes, own_forget);  // before the addresses are reused
    unmap(pages, bytes);
    errno = saved;
}

void flk_platform_pages_forget(void *pages, size_t bytes) {
    FLK_ASSERT((uintptr_t)pages % flk_platform_page_bytes() == 0);
    int saved = errno;
    madvise(pages, bytes, MADV_DONTNEED);
    errno = saved;
}

// --- what the system tells of pages ------------------------------------------
bool flk_platform_pages_resident(uintptr_t begin, size_t pages,
                                 unsigned char *out) {
    FLK_ASSERT(out && begin % flk_platform_page_bytes() == 0);
    int saved = errno;
    bool known = mincore((void *)begin, pages * flk_platform_page_bytes(),
                         (void *)out) == 0;  // char * on some systems
    errno = saved;
    for (size_t i = 0; i < pages && known; i++)
        out[i] &= 1;
    return known;
}

#if defined(__linux__)
// PAGEMAP_SCAN of linux/fs.h, which older headers lack.
typedef struct page_region {
    uint64_t start, end, categories;
} page_region;

typedef struct scan_arguments {
    uint64_t size, flags, start, end, walk_end;
    uint64_t regions, region_count, pages_max;
    uint64_t inverted, needed, any_of, returned;
} scan_arguments;

enum {
    PAGE_IN_MEMORY = 1 << 3,
    PAGE_IN_SWAP = 1 << 4,
    PAGE_IS_A_GUARD = 1 << 8
};

// The first region of pages with one of the categories, as long as it is or one
// page of it; the number of regions, 0 or 1; below 0: the system does not tell.
static int next_region(int pagemap_file, uintptr_t begin, uintptr_t end,
                       uint64_t any_of, uint64_t pages_max,
                       page_region *found) {
    FLK_ASSERT(begin < end && begin % flk_platform_page_bytes() == 0);
    scan_arguments arguments = {.size = sizeof arguments,
                                .start = begin,
                                .end = end,
                                .regions = (uintptr_t)found,
                                .region_count = 1,
                                .pages_max = pages_max,
                                .any_of = any_of,
                                .returned = any_of};
    int saved = errno;
    int count = ioctl(pagemap_file, _IOWR('f', 16, scan_arguments), &arguments);
    errno = saved;
    return count;
}

uintptr_t flk_platform_pages_next_used(int pagemap_file, uintptr_t begin,
                                       uintptr_t end) {
    page_region found = {0};
    int count = next_region(pagemap_file, begin, end,
                            PAGE_IN_MEMORY | PAGE_IN_SWAP, 1, &found);
    if (count < 0)
        return begin;
    return count == 0 ? end : (uintptr_t)found.start;
}

bool flk_platform_pages_next_guard(int pagemap_file, uintptr_t begin,
                                   uintptr_t end, uintptr_t *guard_begin,
                                   uintptr_t *guard_end) {
    FLK_ASSERT(guard_begin && guard_end);
    page_region found = {0};
    if (next_region(pagemap_file, begin, end, PAGE_IS_A_GUARD, 0, &found) != 1)
        return false;
    *guard_begin = (uintptr_t)found.start;
    *guard_end = (uintptr_t)found.end;
    return true;
}
#else
uintptr_t flk_platform_pages_next_used(int pagemap_file, uintptr_t begin,
                                       uintptr_t end) {
    (void)pagemap_file, (void)end;
    return begin;
}

bool flk_platform_pages_next_guard(int pagemap_file, uintptr_t begin,
                                   uintptr_t end, uintptr_t *guard_begin,
                                   uintptr_t *guard_end) {
    (void)pagemap_file, (void)begin, (void)end;
    (void)guard_begin, (void)guard_end;
    return false;
}
#endif

bool flk_platform_pages_protect(uintptr_t address, size_t bytes, unsigned may) {
    FLK_ASSERT(bytes > 0 &&
               may <= (FLK_PAGE_READ | FLK_PAGE_WRITE | FLK_PAGE_EXECUTE));
    uintptr_t first = address & ~(uintptr_t)(flk_platform_page_bytes() - 1);
    int protection = (may & FLK_PAGE_READ ? PROT_READ : 0) |
                     (may & FLK_PAGE_WRITE ? PROT_READ | PROT_WRITE : 0) |
                     (may & FLK_PAGE_EXECUTE ? PROT_EXEC : 0);
    int saved = errno;
    bool done =
        mprotect((void *)first, address + bytes - first, protection) == 0;
    errno = saved;
    return done;
}
