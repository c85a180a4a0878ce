// callbacks.c - C that calls Python that may call C.
#include <stdlib.h>

void *take(size_t size) { return malloc(size); }
void give(void *block) { free(block); }
void *call_and_take(void (*call)(int), int argument, size_t size) {
    call(argument);
    return malloc(size);
}
void *call_back(void *(*call)(size_t), size_t size) { return call(size); }
