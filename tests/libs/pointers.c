// pointers.c - calls what it is given, in its own thread or in another one.
#include <pthread.h>
#include <stdlib.h>

typedef void *(*taker)(size_t);

struct call {
    taker take;
    size_t size;
};

static void *body(void *argument) {
    struct call *call = argument;
    return call->take(call->size);
}

void *take_here(void *(*take)(size_t), size_t size) { return take(size); }
void *take_there(void *(*take)(size_t), size_t size) {
    pthread_t thread;
    void *block = 0;
    struct call call = {take, size};
    if (pthread_create(&thread, 0, body, &call) != 0)
        abort();
    pthread_join(thread, &block);
    return block;
}
void *take_plainly(size_t size) { return malloc(size); }
