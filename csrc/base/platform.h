// platform.h - locks, threads, mapped pages, clocks, fork.               SPDX-License-Identifier: MIT
// Keeps:   a thread-local pointer and marks of each thread, and a counter of mappings for tests. platform.c, with
//          platform_pages.c and platform_child.c, is alone to include the headers of pthread and mmap.
// Cost:    an uncontended lock is one atomic exchange; a mapping is a system call.
// Callers: any thread; the GIL is not needed. Nothing here calls malloc or changes errno.
// Fails:   flk_platform_pages_map returns NULL. Everything else cannot fail, or aborts with a text when an invariant
//          is broken.
#ifndef FLK_PLATFORM_H
#define FLK_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Defined where loaded objects can be patched. Elsewhere elf/ and hooks/ compile
// to nothing, and hooks/attach.h reports that attach is not supported. With
// FLK_NO_ELF it is so everywhere, for tests.
#if defined(__linux__) && defined(__LP64__) && !defined(FLK_NO_ELF) && \
    (defined(__x86_64__) || defined(__aarch64__))
#define FLK_HAS_ELF 1
#endif

#if defined(__GNUC__)
#define FLK_LIKELY(x) __builtin_expect(!!(x), 1)
#define FLK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FLK_NOINLINE __attribute__((noinline))
// For code that every event runs through: it is inlined into its caller.
#define FLK_HOT inline __attribute__((always_inline))
// Hides from the compiler where this value comes from.
#define FLK_OPAQUE(value) __asm__ volatile("" : "+r"(value))
// Begins to load a line of memory, which need not be there.
#define FLK_PREFETCH(address) __builtin_prefetch(address)
#else
#define FLK_LIKELY(x) (x)
#define FLK_UNLIKELY(x) (x)
#define FLK_NOINLINE
#define FLK_HOT inline
#define FLK_OPAQUE(value) ((void)(value))
#define FLK_PREFETCH(address) ((void)(address))
#endif

// Two words, sorted by the first (base/pairs.h).
typedef struct flk_pair {
    uint64_t key, value;
} flk_pair;

typedef enum flk_status {
    FLK_OK = 0,
    FLK_NO_MEMORY = -1,  // no page left: the caller counts a drop
    FLK_LIMIT = -2,      // a limit of base/config.h: the caller counts a drop
} flk_status;

// --- asserts -----------------------------------------------------------
// Checked in debug builds and in the C tests (FLK_DEBUG). In release builds the
// condition is compiled but not evaluated.
#ifdef FLK_DEBUG
#define FLK_ASSERT(condition) \
    ((condition) ? (void)0 : flk_platform_fatal(#condition, __FILE__, __LINE__))
#else
#define FLK_ASSERT(condition) ((void)sizeof(condition))
#endif
// Writes a line to stderr, without malloc or stdio, and aborts.
_Noreturn void flk_platform_fatal(const char *what, const char *file, int line);

// --- locks -------------------------------------------------------------
// A thread may take a lock only if all locks it holds have a lower rank; debug
// builds assert this. Locks of equal rank, such as all shards, may be held
// together if they are taken in the order of their indices.
typedef enum flk_rank {
    FLK_RANK_NONE = 0,
    FLK_RANK_ATTACH,        // patching; the loader's lock may be taken under it
    FLK_RANK_LOADER,        // questions to the loader; none is asked in a fork
    FLK_RANK_GATE,          // whether tracking is on
    FLK_RANK_TRACKER,       // settings, reset, snapshots, fork
    FLK_RANK_SCOPES,        // opening and closing scopes
    FLK_RANK_THREADS,       // the list of threads
    FLK_RANK_YOUNG,         // the slots of recent blocks
    FLK_RANK_SHARD,         // one shard of the registry
    FLK_RANK_REFERENCES,    // counts of references of handles
    FLK_RANK_TOTALS,        // sums of ended threads
    FLK_RANK_RECENT,        // one stripe of recent frees
    FLK_RANK_CLASSES,       // classes whose objects are traced
    FLK_RANK_OBJECT_TABLE,  // tables of Python objects
    FLK_RANK_OBSERVE,       // events that wait for observers
    FLK_RANK_NAMES,         // interned types
    FLK_RANK_CALLPATH,      // one shard of the index of call paths
    FLK_RANK_MODULES,       // modules of native frames
    FLK_RANK_CODES,         // code objects and sites
    FLK_RANK_ARENA,         // memory of the core; no lock comes after it
} flk_rank;

typedef struct flk_lock {
    atomic_uint word;  // 0 free, 1 held
    uint32_t rank;     // one of flk_rank; constant
} flk_lock;

#define FLK_LOCK_INIT(rank_) {0, (rank_)}
// Waits for a lock that is held: spins, then yields the processor. Locks are
// not recursive.
void flk_platform_lock_contended(flk_lock *lock);
#ifdef FLK_DEBUG
// Count the locks a thread holds, and assert the order of ranks.
void flk_platform_lock_note(const flk_lock *lock);
void flk_platform_unlock_note(const flk_lock *lock);
// From now on a lock that an event may take is taken only where this returns
// true: else a signal handler that allocates would wait for its own thread.
void flk_platform_lock_only_if(bool (*is_allowed)(void));
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
// One pointer for each thread, NULL until it is set. `at_exit` is called with
// the pointer when a thread that set it ends. If the thread sets the pointer
// again while it ends, `at_exit` is called again.
void *flk_platform_thread_pointer(void);
void flk_platform_thread_set_pointer(void *pointer);
void flk_platform_thread_at_exit(void (*at_exit)(void *pointer));
// The value of threading.get_ident() in this thread.
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
    uint32_t note_count;  // ever; the first and the last ones are kept
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
    // Stack pointer before the outermost call of an allocating function whose
    // provider allocates inside; 0 = none is running. May be left behind.
    uintptr_t allocating_frame;
    bool is_forking;     // this thread holds all locks
    bool is_demangling;  // elf/demangle.c uses the C++ runtime: not recorded
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
// pair needs only a compiler barrier. Some microseconds with membarrier(2). False
// if there is no such fence: then only a millisecond has passed.
bool flk_platform_fence_threads(void);
// For tests: how many of the next fences there are not.
void flk_platform_fence_fail(uint32_t times);
// Lets another thread run, if this processor has one that waits.
void flk_platform_yield(void);

// --- memory ------------------------------------------------------------
// Zeroed pages; NULL when there are none. `bytes` is a multiple of the page
// size, `alignment` a power of two and at least a page.
void *flk_platform_pages_map(size_t bytes, size_t alignment);
void flk_platform_pages_unmap(void *pages, size_t bytes);
// Returns the memory but keeps the addresses, which read zero afterwards.
void flk_platform_pages_forget(void *pages, size_t bytes);
size_t flk_platform_page_bytes(void);
// The bytes of the whole pages that hold `bytes`; at least one page.
static inline size_t flk_platform_pages_for(size_t bytes) {
    size_t page = flk_platform_page_bytes();
    return ((bytes ? bytes : 1) + page - 1) & ~(page - 1);
}
// The mappings that flk_platform_pages_map returned and that are not unmapped,
// as pairs of (begin, end) in no order. Fills in at most `max` pairs; returns
// how many there are. Of more than FLK_OWN_MAPPINGS_MAX mappings, some are
// missing.
size_t flk_platform_pages_own(flk_pair *out, size_t max);
// Zeroed pages that a child of flk_platform_child_begin shares with this
// process. To be unmapped by flk_platform_pages_unmap. NULL when there are none.
void *flk_platform_pages_share(size_t bytes);
// For each page from `begin` on, 1 if it is in memory; false if the system does
// not tell.
bool flk_platform_pages_resident(uintptr_t begin, size_t pages,
                                 unsigned char *out);
// The first page from `begin` on, but below `end`, that is in memory or in swap;
// `end` if there is none. `begin` itself if the system does not tell (Linux
// before 6.7). A sparse mapping of terabytes is passed in microseconds.
uintptr_t flk_platform_pages_next_used(int pagemap_file, uintptr_t begin,
                                       uintptr_t end);
// The first guard pages from `begin` on, but below `end`, that the system keeps
// inside of a mapping (MADV_GUARD_INSTALL): glibc 2.42 and later guards stacks
// so. A read of them ends the process. False if there are none, or if the system
// does not tell (Linux before 6.16, which may have them from 6.13 on).
bool flk_platform_pages_next_guard(int pagemap_file, uintptr_t begin,
                                   uintptr_t end, uintptr_t *guard_begin,
                                   uintptr_t *guard_end);
// Access rights of pages. FLK_PAGE_WRITE implies reading.
enum { FLK_PAGE_READ = 1, FLK_PAGE_WRITE = 2, FLK_PAGE_EXECUTE = 4 };
// Sets the rights of the pages that hold these bytes. False if the system
// refuses.
bool flk_platform_pages_protect(uintptr_t address, size_t bytes, unsigned may);
// For tests: makes the n-th mapping from now fail, once (0 = none). Returns the
// number of mappings requested since the last call.
uint64_t flk_platform_pages_fail_at(uint64_t nth);

// True if these bytes can be read: for addresses that may mean nothing. One system
// call for each page. Elsewhere than on Linux it is not known, and true.
bool flk_platform_can_read(const void *start, size_t bytes);

// --- stacks ------------------------------------------------------------
// The bytes left on the alternate signal stack on which this thread runs;
// SIZE_MAX if it runs on another stack, or on one with SS_AUTODISARM, which the
// system does not report. One system call.
size_t flk_platform_stack_left(void);

// Where the stack of the function that expands it begins, for a reader of live
// words: with the registers that it keeps for its caller, which are saved here,
// but without its own variables (on x86-64).
#if defined(__x86_64__) && defined(__GNUC__)
#define FLK_STACK_BEGIN() \
    (__builtin_unwind_init(), (uintptr_t)__builtin_frame_address(0) - 5 * 8)
#elif defined(__GNUC__)
#define FLK_STACK_BEGIN() \
    (__builtin_unwind_init(), (uintptr_t)__builtin_frame_address(0))
#else
#define FLK_STACK_BEGIN() ((uintptr_t)0)  // the whole stack
#endif

// --- clocks ------------------------------------------------------------
// Steady clock in nanoseconds with steps of at most 4 ms; no system call.
uint64_t flk_platform_clock_coarse(void);
// The same in steps of the hardware.
uint64_t flk_platform_clock_exact(void);
// Nanoseconds since 1970, for turning the steady clock into a date.
uint64_t flk_platform_clock_wall(void);

// --- fork --------------------------------------------------------------
// Registers handlers that run around fork in the forking thread. Of the set
// registered last, `prepare` runs first and the others run last. A set is
// identified by its `prepare` and registered once; later calls are ignored.
// There is room for two sets.
void flk_platform_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void));

// --- a child that looks -------------------------------------------------
// A copy of this process with one thread, which calls `work` and ends. No fork
// handler runs and no exit handler; the program gets no SIGCHLD, and its waits
// do not see the child. The locks that `work` needs must be held by the caller,
// and are held in the child. `work` must not call malloc or Python. Signals are
// blocked there but for those of faulty accesses, which kill the child. The
// child is killed if the calling thread ends. Returns its process number, or -1
// if the system refuses.
int flk_platform_child_begin(void (*work)(void *context), void *context);
typedef enum flk_child_state {
    FLK_CHILD_RUNS,
    FLK_CHILD_ENDED,   // `work` returned
    FLK_CHILD_KILLED,  // by a signal, or by another process
} flk_child_state;
// Looks once, without waiting; not again after the end.
flk_child_state flk_platform_child_look(int child);
void flk_platform_child_kill(int child);
// For tests, the next child: is refused, is killed at once, or never ends.
typedef enum flk_child_fault {
    FLK_CHILD_SOUND,
    FLK_CHILD_REFUSED,
    FLK_CHILD_DIES,
    FLK_CHILD_HANGS,
} flk_child_fault;
void flk_platform_child_fail(int how);
// In such a child: copies memory, though it may not be readable. False: it is
// not. Also for memory that other threads may unmap meanwhile. Needs /proc.
bool flk_platform_memory_copy(int memory_file, uintptr_t from, void *to,
                              size_t bytes);

#endif
