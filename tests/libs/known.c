// known.c - programs whose lost and held blocks are known; each block has a size that names its case.
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 128 };

typedef struct node {
    struct node *next;
    char rest[];
} node;

static void *volatile list_heads[ROUNDS];
// Volatile: the compiler drops what is only written.
static void *volatile in_bss[ROUNDS];
static void *volatile in_data[ROUNDS] = {&list_heads};
static void *volatile tagged[ROUNDS], *volatile interior[ROUNDS];
static void *volatile xored[ROUNDS];
static __thread void *volatile in_tls[ROUNDS];
static void *volatile *in_shared;

// Memory of malloc has words from before, which may be pointers.
static void *make(size_t bytes) { return memset(malloc(bytes), 0, bytes); }

// Takes the memory that malloc has free, so that later blocks are where none was
// before. Words that are left of freed memory in the rounded-up ends of other
// blocks then point to none of them.
void use_up(void) {
    static void *volatile used[32768];
    int count = 0;
    for (size_t bytes = 3016; bytes >= 1000; bytes -= 16)
        for (int k = 0; k < 64; k++)
            used[count++] = malloc(bytes);
}

void lost_single(int i) {
    (void)i;
    make(1010);
}

static node *list_of(size_t head_bytes, size_t bytes, int count) {
    node *head = make(head_bytes), *last = head;
    for (int k = 0; k < count; k++) {
        last->next = make(bytes);
        last = last->next;
    }
    last->next = NULL;
    return head;
}

// The tail is made first, so that the head has a higher number.
void lost_list(int i) {
    (void)i;
    node *tail = list_of(1021, 1021, 4);
    node *head = make(1020);
    head->next = tail;
}

void lost_ring(int i) {
    (void)i;
    node *ring = list_of(1030, 1030, 2);
    ring->next->next->next = ring;
}

// A ring that a lost block leads to.
void lost_ring_below(int i) {
    (void)i;
    node *ring = list_of(1041, 1041, 2);
    ring->next->next->next = ring;
    node *head = make(1040);
    head->next = ring;
}

static __attribute__((noinline)) void leave_in_frame(void) {
    void *volatile words[64];
    void *made = make(1050);
    for (int k = 0; k < 64; k++)
        words[k] = made;
    (void)words[3];
}

void lost_in_dead_frame(int i) {
    (void)i;
    leave_in_frame();
}

void lost_in_freed_block(int i) {
    (void)i;
    for (size_t bytes = 24; bytes < 3000; bytes = bytes * 2 + 8) {
        void **holder = malloc(bytes);
        for (size_t k = 0; k < bytes / sizeof *holder; k++)
            holder[k] = NULL;
        // malloc uses the first two words, and a new owner this one at once.
        holder[2] = make(1060);
        free(holder);
    }
}

void held_by_list(int i) { list_heads[i] = list_of(2000, 2001, 3); }

void held_in_bss(int i) { in_bss[i] = make(2010); }

void held_in_data(int i) { in_data[i] = make(2020); }

void held_in_tls(int i) { in_tls[i] = make(2030); }

void held_tagged(int i) {
    tagged[i] = (char *)make(2040) + (i & 7);
}

void held_interior(int i) { interior[i] = (char *)make(2050) + 2049; }

void held_in_shared(int i) {
    if (!in_shared)
        in_shared = mmap(NULL, ROUNDS * sizeof *in_shared,
                         PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                         -1, 0);
    in_shared[i] = make(2060);
}

// The only pointer lies in the frame of a thread that waits in the kernel.
static pthread_barrier_t has_it;
static int pipe_ends[2];

static void *hold_in_frame(void *unused) {
    void *volatile held[ROUNDS];
    (void)unused;
    for (int k = 0; k < ROUNDS; k++)
        held[k] = k < 100 ? make(2070) : NULL;
    pthread_barrier_wait(&has_it);
    char byte;
    ssize_t got = read(pipe_ends[0], &byte, 1);
    (void)got;
    return held[0];
}

static void *hold_in_thread_tls(void *unused) {
    (void)unused;
    for (int k = 0; k < 100; k++)
        in_tls[k] = make(2080);
    pthread_barrier_wait(&has_it);
    char byte;
    ssize_t got = read(pipe_ends[0], &byte, 1);
    (void)got;
    return in_tls[0];
}

// Makes all of its blocks in the first round.
void held_by_threads(int i) {
    if (i > 0 || pipe(pipe_ends) != 0)
        return;
    pthread_barrier_init(&has_it, NULL, 3);
    pthread_t thread;
    pthread_create(&thread, NULL, hold_in_frame, NULL);
    pthread_create(&thread, NULL, hold_in_thread_tls, NULL);
    pthread_barrier_wait(&has_it);
}

// A pointer that is kept changed is not seen: a documented miss.
void missed_xored(int i) {
    xored[i] = (void *)((uintptr_t)make(3000) ^ (uintptr_t)0x5555555555555555);
}

void put(void **where, size_t bytes) { *where = make(bytes); }

