// plain.c - takes blocks, gives them back, keeps them.
#include <stdlib.h>

void *take(size_t size) { return malloc(size); }
void *take_zeroed(size_t count, size_t size) { return calloc(count, size); }
void *resize(void *block, size_t size) { return realloc(block, size); }
void give(void *block) { free(block); }
void churn(long rounds) {
    for (long i = 0; i < rounds; i++)
        give(take(16 + i % 64));
}
