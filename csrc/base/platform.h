// platform.h - locks, threads, mapped pages, clocks, fork.               SPDX-License-Identifier: MIT
// Keeps:   nothing of its own but the count of mapped bytes; the one file that sees pthread and mmap.
// Cost:    an uncontended lock is one atomic exchange; mapping is a system call.
// Callers: any thread, GIL not needed. Nothing here allocates from malloc or changes errno.
// Fails:   pages return NULL; everything else cannot fail or aborts with a text (a broken invariant).
#ifndef FLK_PLATFORM_H
#define FLK_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Where objects are patched (elf/elf.h, hooks/bodies.h, elf/patch.h); elsewhere
// hooks/attach.h says that it is not supported.
#if defined(__linux__) && defined(__LP64__) && \
    (defined(__x86_64__) || defined(__aarch64__))
#define FLK_HAS_ELF 1
#endif

#if defined(__GNUC__)
#define FLK_LIKELY(x) __builtin_expect(!!(x), 1)
#define FLK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FLK_NOINLINE __attribute__((noinline))
// What each event runs through: part of its caller.
#define FLK_HOT inline __attribute__((always_inline))
// The compiler may no longer know where this value comes from.
#define FLK_OPAQUE(value) __asm__ volatile("" : "+r"(value))
#else
#define FLK_LIKELY(x) (x)
#define FLK_UNLIKELY(x) (x)
#define FLK_NOINLINE
#define FLK_HOT inline
#define FLK_OPAQUE(value) ((void)(value))
#endif

typedef enum flk_status {
    FLK_OK = 0,
    FLK_NO_MEMORY = -1,  // no page left: the caller counts a drop
    FLK_LIMIT = -2,      // a limit of base/config.h: the caller counts a drop
} flk_status;

// --- asserts -----------------------------------------------------------
// Checked in debug and test builds (FLK_DEBUG); in release builds the text
// stays but the test does not run.
#ifdef FLK_DEBUG
#define FLK_ASSERT(condition) \
    ((condition) ? (void)0 : flk_platform_fatal(#condition, __FILE__, __LINE__))
#else
#define FLK_ASSERT(condition) ((void)sizeof(condition))
#endif
// Writes one line on stderr without malloc or stdio, and aborts.
_Noreturn void flk_platform_fatal(const char *what, const char *file, int line);

// --- locks -------------------------------------------------------------
// A lock may be taken only while all held ones have a lower rank (asserted
// in debug builds), except the shards, which may be taken all, in order.
typedef enum flk_rank {
    FLK_RANK_NONE = 0,
    FLK_RANK_ATTACH,   // patching of loaded objects; the loader's come after
    FLK_RANK_LOADER,   // questions to the loader; none is asked in a fork
    FLK_RANK_GATE,     // on or off
    FLK_RANK_TRACKER,  // settings, reset, snapshots, the fork
    FLK_RANK_SCOPES,   // open and close a scope
    FLK_RANK_THREADS,  // the list of threads
    FLK_RANK_SHARD,    // one shard of the registry
    FLK_RANK_TOTALS,   // what ended threads counted
    FLK_RANK_RECENT,   // one stripe of recent frees
    FLK_RANK_CLASSES,  // classes whose objects are asked for
    FLK_RANK_OBJECT_TABLE,  // tables of Python objects
    FLK_RANK_OBSERVE,       // events that wait for observers
    FLK_RANK_NAMES,         // interned types
    FLK_RANK_CALLPATH,      // one shard of the tree's index
    FLK_RANK_MODULES,       // modules of native frames
    FLK_RANK_CODES,         // code objects and sites
    FLK_RANK_ARENA,         // memory of the core; takes nothing else
} flk_rank;

typedef struct flk_lock {
    atomic_uint word;  // 0 free, 1 held
    uint32_t rank;     // an flk_rank; constant
} flk_lock;

#define FLK_LOCK_INIT(rank_) {0, (rank_)}
// Spins a little, then yields the processor. Not recursive.
void flk_platform_lock_contended(flk_lock *lock);
#ifdef FLK_DEBUG
void flk_platform_lock_note(const flk_lock *lock);  // asserts the rank
void flk_platform_unlock_note(const flk_lock *lock);
#else
#define flk_platform_lock_note(lock) ((void)0)
#define flk_platform_unlock_note(lock) ((void)0)
#endif

static inline void flk_lock_take(flk_lock *lock) {
    flk_platform_lock_note(lock);
    if (FLK_UNLIKELY(
            atomic_exchange_explicit(&lock->word, 1, memory_order_acquire)))
        flk_platform_lock_contended(lock);
}

static inline bool flk_lock_try(flk_lock *lock) {
    if (atomic_exchange_explicit(&lock->word, 1, memory_order_acquire))
        return false;
    flk_platform_lock_note(lock);
    return true;
}

static inline void flk_lock_release(flk_lock *lock) {
    flk_platform_unlock_note(lock);
    atomic_store_explicit(&lock->word, 0, memory_order_release);
}

// --- threads -----------------------------------------------------------
// One pointer for each thread; NULL until set. `at_exit` is called with it
// when a thread ends after having set it (maybe more than once: a thread
// that sets it again while it ends is told again).
void *flk_platform_thread_pointer(void);
void flk_platform_thread_set_pointer(void *pointer);
void flk_platform_thread_at_exit(void (*at_exit)(void *pointer));
// What threading.get_ident() returns for this thread.
uint64_t flk_platform_thread_ident(void);
// What the hooks remember of a thread from one call to the next. It exists in
// every thread from the first instruction to the last, so that a hook never
// has to create it.
//
// While a function of the C library runs whose result its caller must free
// (strdup, getline), the blocks it allocates are noted: one of them is the
// result.
enum { FLK_RETURNED_MAX = 4 };
typedef struct flk_returned {
    uint16_t type;        // of the result; 0 = nothing is noted now
    bool is_all;          // every block it allocates belongs to the caller
    uint32_t note_count;  // ever; the last FLK_RETURNED_MAX are kept
    uintptr_t frame;      // stack pointer before the call (hooks/bodies.c);
                          // 0 = no such function is running
    struct {
        uintptr_t address;
        uint64_t size_bytes;
    } notes[FLK_RETURNED_MAX];
} flk_returned;

typedef struct flk_marks {
    uintptr_t releasing;        // the block an outer hook is releasing, or 0
    uintptr_t releasing_frame;  // stack pointer before that outer call
    bool is_forking;            // this thread holds all locks
    // Sampling (hooks/sample.h): bytes left to the next sample, and the mean
    // distance they were drawn from.
    double sample_left;
    uint64_t sample_mean, random;
    flk_returned returned;
} flk_marks;
flk_marks *flk_platform_thread_marks(void);

// Lets other threads run for about a millisecond.
void flk_platform_pause(void);
// Returns after every other thread of the process has passed a full memory
// fence since the call: an asymmetric fence, so that the other side of the
// pair needs only a compiler barrier. Some microseconds with membarrier(2).
void flk_platform_fence_threads(void);

// --- memory ------------------------------------------------------------
// Zeroed pages, `bytes` a multiple of the page size; NULL when there are
// none. Aligned to `alignment`, a power of two of at least a page.
void *flk_platform_pages_map(size_t bytes, size_t alignment);
void flk_platform_pages_unmap(void *pages, size_t bytes);
// Gives the memory back but keeps the addresses; they read zero again.
void flk_platform_pages_forget(void *pages, size_t bytes);
size_t flk_platform_page_bytes(void);
// What may be done with pages; FLK_PAGE_WRITE implies reading.
enum { FLK_PAGE_READ = 1, FLK_PAGE_WRITE = 2, FLK_PAGE_EXECUTE = 4 };
// Of the pages that hold these bytes. False: the system refuses.
bool flk_platform_pages_protect(uintptr_t address, size_t bytes, unsigned may);
// Tests: the n-th mapping from now fails, once (0 = none). Returns how many
// mappings were asked for since the last call.
uint64_t flk_platform_pages_fail_at(uint64_t nth);

// --- clocks ------------------------------------------------------------
// Nanoseconds, never falling; steps of at most 4 ms; cheap (no system call).
uint64_t flk_platform_clock_coarse(void);
// Nanoseconds since the epoch, for turning the former into a date.
uint64_t flk_platform_clock_wall(void);

// --- fork --------------------------------------------------------------
// Called around fork in the forking thread: `prepare` of the set registered
// last comes first, its other two come last. A set (named by its `prepare`)
// is registered once; later calls are ignored. There is room for two.
void flk_platform_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void));

#endif
