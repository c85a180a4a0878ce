// threads.c - allocates and frees in threads that are not Python's.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static void *take_in_thread(void *size) { return malloc((size_t)size); }
static void *give_in_thread(void *block) {
    free(block);
    return 0;
}
static void *churn_in_thread(void *rounds) {
    for (long i = 0; i < (long)rounds; i++)
        free(malloc(16 + i % 100));
    return 0;
}
static void *churn_for_ever(void *stop) {
    while (!atomic_load((atomic_int *)stop)) {
        void *block = malloc(24);
        block = realloc(block, 3000);
        free(block);
    }
    return 0;
}
static void *run(void *(*body)(void *), void *argument) {
    pthread_t thread;
    void *result = 0;
    if (pthread_create(&thread, 0, body, argument) != 0)
        abort();
    pthread_join(thread, &result);
    return result;
}
static atomic_int stop;
static pthread_t endless[8];

void *take_elsewhere(size_t size) { return run(take_in_thread, (void *)size); }
void give_elsewhere(void *block) { run(give_in_thread, block); }
void churn_elsewhere(long rounds) { run(churn_in_thread, (void *)rounds); }
void *take(size_t size) { return malloc(size); }
void give(void *block) { free(block); }
void *take_slowly(size_t size, int microseconds) {
    usleep(microseconds);
    return malloc(size);
}
void churn(long rounds) { churn_in_thread((void *)rounds); }
void start_endless(int count) {
    atomic_store(&stop, 0);
    for (int i = 0; i < count; i++)
        if (pthread_create(&endless[i], 0, churn_for_ever, &stop) != 0)
            abort();
}
void stop_endless(int count) {
    atomic_store(&stop, 1);
    for (int i = 0; i < count; i++)
        pthread_join(endless[i], 0);
}
