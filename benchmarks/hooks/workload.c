// workload.c - the native loops of bench_hooks.py.                          SPDX-License-Identifier: MIT
// Loops of malloc and free as a library has them. What is not static is called from Python.
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))
#define HIDE(p) __asm__ volatile("" : "+r"(p)::"memory")

static NOINLINE void pair(size_t bytes) {
    void *block = malloc(bytes);
    HIDE(block);
    free(block);
}

void pairs(long n) {
    for (long i = 0; i < n; i++)
        pair(64);
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Sizes of 16 bytes to 2 KiB, the small ones more often.
void pairs_mixed(long n) {
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (long i = 0; i < n; i++) {
        uint64_t r = next_random(&random);
        pair(16u << (r % 8 * (r >> 8 & 1 ? 1 : 0)));
    }
}

// --- many live blocks --------------------------------------------------
static struct {
    void **blocks;
    long count, place;
    uint64_t random;
} live = {.random = 88172645463325252u};

static size_t some_size(void) { return 16 + next_random(&live.random) % 240; }

int background_begin(long n) {
    live.blocks = calloc((size_t)n, sizeof *live.blocks);
    live.count = n;
    live.place = 0;
    return live.blocks ? 0 : -1;
}

void background_fill(long n) {
    for (long i = 0; i < n && live.place < live.count; i++)
        live.blocks[live.place++] = malloc(some_size());
}

void background_shuffle(void) {
    for (long i = live.count - 1; i > 0; i--) {
        long k = (long)(next_random(&live.random) % (uint64_t)(i + 1));
        void *block = live.blocks[i];
        live.blocks[i] = live.blocks[k];
        live.blocks[k] = block;
    }
    live.place = 0;
}

// Frees a live block and makes another, in no order of the heap.
void background_churn(long n) {
    for (long i = 0; i < n; i++) {
        free(live.blocks[live.place]);
        live.blocks[live.place] = malloc(some_size());
        live.place = (live.place + 1) % live.count;
    }
}

void background_end(void) {
    for (long i = 0; i < live.count; i++)
        free(live.blocks[i]);
    free(live.blocks);
    live.blocks = NULL;
}

// --- eight native frames -----------------------------------------------
// Each level calls the next from one of four places, as two bits of `way`
// say: 65,536 stacks.
#define PLACE(next, i) \
    next(way >> 2);    \
    __asm__ volatile("# " #i)
#define LEVEL(name, next)                     \
    static NOINLINE void name(unsigned way) { \
        switch (way & 3) {                    \
        case 0:                               \
            PLACE(next, 0);                   \
            break;                            \
        case 1:                               \
            PLACE(next, 1);                   \
            break;                            \
        case 2:                               \
            PLACE(next, 2);                   \
            break;                            \
        default:                              \
            PLACE(next, 3);                   \
            break;                            \
        }                                     \
    }
static NOINLINE void level_0(unsigned way) {
    (void)way;
    pair(64);
    __asm__ volatile("# below");
}
LEVEL(level_1, level_0)
LEVEL(level_2, level_1)
LEVEL(level_3, level_2)
LEVEL(level_4, level_3)
LEVEL(level_5, level_4)
LEVEL(level_6, level_5)
LEVEL(level_7, level_6)
LEVEL(level_8, level_7)

void pairs_deep(long n) {
    for (long i = 0; i < n; i++)
        level_8(0);
}

void pairs_deep_new(long n) {
    for (long i = 0; i < n; i++)
        level_8((unsigned)i * 40503u & 0xffff);
}

// --- two threads that free each other's blocks --------------------------
enum { RING = 256 };

typedef struct ring {
    _Alignas(64) atomic_long written;
    _Alignas(64) atomic_long read;
    _Alignas(64) void *blocks[RING];
} ring;

static ring rings[2];

void rings_clear(void) {
    for (int i = 0; i < 2; i++) {
        atomic_store(&rings[i].written, 0);
        atomic_store(&rings[i].read, 0);
    }
}

static long put_some(ring *to, long left) {
    long written = atomic_load_explicit(&to->written, memory_order_relaxed);
    long room = RING - (written -
                        atomic_load_explicit(&to->read, memory_order_acquire));
    long count = room < left ? room : left;
    for (long i = 0; i < count; i++)
        to->blocks[(written + i) % RING] = malloc(64);
    atomic_store_explicit(&to->written, written + count, memory_order_release);
    return count;
}

static long free_some(ring *from) {
    long read = atomic_load_explicit(&from->read, memory_order_relaxed);
    long count =
        atomic_load_explicit(&from->written, memory_order_acquire) - read;
    for (long i = 0; i < count; i++)
        free(from->blocks[(read + i) % RING]);
    atomic_store_explicit(&from->read, read + count, memory_order_release);
    return count;
}

// Makes n blocks for `to`, frees n of `from`; one thread alone: to == from.
void exchange(int to, int from, long n) {
    long made = 0, freed = 0;
    while (made < n || freed < n) {
        long count = put_some(&rings[to], n - made);
        made += count;
        long gone = free_some(&rings[from]);
        freed += gone;
        if (count == 0 && gone == 0)
            sched_yield();
    }
}
