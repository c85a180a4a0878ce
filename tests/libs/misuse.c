// misuse.c - frees twice, inside a block, after realloc; and takes unseen.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *take(size_t size) { return malloc(size); }
void *take_zeroed(size_t size) { return calloc(1, size); }
void *take_grown(size_t size) { return realloc(0, size); }
void *take_aligned(size_t size) { return aligned_alloc(64, size); }
void *take_placed(size_t size) {
    void *block = 0;
    return posix_memalign(&block, 32, size) == 0 ? block : 0;
}
char *take_copy(const char *text) { return strdup(text); }
void give(void *block) {
    free(block);
    __asm__ volatile("");
}
void *resize(void *block, size_t size) {
    void *moved = realloc(block, size);
    __asm__ volatile("");
    return moved;
}
void give_twice(void *block) {
    give(block);
    give(block);
}
void fill(void *block, int byte, size_t size) { memset(block, byte, size); }
void give_at(char *block, long offset) { give(block + offset); }

// The functions of the C library under a pointer that no scan can find.
enum { KEY = 0x5a5a };
static uintptr_t hidden_malloc, hidden_free;
__attribute__((constructor)) static void hide(void) {
    hidden_malloc = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc") ^ KEY;
    hidden_free = (uintptr_t)dlsym(RTLD_DEFAULT, "free") ^ KEY;
}
void *take_unseen(size_t size) {
    return ((void *(*)(size_t))(hidden_malloc ^ KEY))(size);
}
void give_unseen(void *block) {
    ((void (*)(void *))(hidden_free ^ KEY))(block);
}

static void *give_in_thread(void *block) {
    free(block);
    return 0;
}
void give_elsewhere(void *block) {
    pthread_t thread;
    if (pthread_create(&thread, 0, give_in_thread, block) != 0)
        abort();
    pthread_join(thread, 0);
}

static void *volatile in_handler;
static void handle(int number) { free(in_handler); }
void give_in_handler(void *block) {
    in_handler = block;
    signal(SIGUSR1, handle);
    raise(SIGUSR1);
}

// Threads that take and give blocks without an error, and exchange them.
enum { PLACES = 64 };
static void *_Atomic places[PLACES];
static void *exchange(void *rounds) {
    unsigned seed = (unsigned)(uintptr_t)&seed;
    for (long i = 0; i < (long)rounds; i++) {
        seed = seed * 1103515245 + 12345;
        size_t size = 8 + seed / 65536 % 200;
        void *block = seed & 1 << 20 ? malloc(size) : take_unseen(size);
        block = __atomic_exchange_n((void **)&places[seed / 7 % PLACES], block,
                                    __ATOMIC_ACQ_REL);
        if (seed & 1 << 21 || !block)
            free(block);
        else
            free(realloc(block, size * 3));
    }
    return 0;
}
void exchange_beside(int threads, long rounds) {
    pthread_t made[16];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&made[i], 0, exchange, (void *)rounds) != 0)
            abort();
    for (int i = 0; i < threads; i++)
        pthread_join(made[i], 0);
    for (int i = 0; i < PLACES; i++)
        free(__atomic_exchange_n((void **)&places[i], 0, __ATOMIC_ACQ_REL));
}
