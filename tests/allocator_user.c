// allocator_user.c - a C library that takes allocator functions, for test_c_functions.py and test_threads.py.
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct allocator {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
} allocator;

typedef struct job {
    const allocator *with;
    int rounds;
    int keep;       // blocks each thread leaves behind
    void **kept;
} job;

void *make(const allocator *with, size_t size_bytes) {
    return with->malloc(size_bytes);
}

void *make_deeper(const allocator *with, size_t size_bytes) {
    return make(with, size_bytes);
}

static void *work(void *argument) {
    job *j = argument;
    for (int i = 0; i < j->rounds; i++) {
        char *a = j->with->malloc((size_t)(i % 300) + 1);
        char *b = j->with->calloc((size_t)(i % 7) + 1, 16);
        memset(a, 1, (size_t)(i % 300) + 1);
        a = j->with->realloc(a, (size_t)(i % 900) + 1);
        j->with->free(b);
        j->with->free(a);
    }
    for (int i = 0; i < j->keep; i++)
        j->kept[i] = j->with->malloc(32);
    return NULL;
}

enum { THREADS_MAX = 16 };

// Returns how many threads ran; `kept` gets threads * keep pointers.
int run_threads(const allocator *with, int threads, int rounds, int keep,
                void **kept) {
    pthread_t running[THREADS_MAX];
    job jobs[THREADS_MAX];
    int started = 0;
    for (int i = 0; i < threads && i < THREADS_MAX; i++) {
        jobs[i] = (job){with, rounds, keep, kept + i * keep};
        if (pthread_create(&running[i], NULL, work, &jobs[i]) != 0)
            break;
        started++;
    }
    for (int i = 0; i < started; i++)
        pthread_join(running[i], NULL);
    return started;
}

// A detached thread that allocates until told to stop, then some more.
static void *work_on(void *argument) {
    const allocator *with = argument;
    for (;;)
        with->free(with->realloc(with->malloc(24), 48));
    return NULL;
}

int start_endless(const allocator *with) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work_on, (void *)with) != 0)
        return 0;
    pthread_detach(thread);
    return 1;
}
