// tables.c - calls malloc through pointers in initialised data.
#include <stdlib.h>

static struct {
    void *(*take)(size_t);
    void (*give)(void *);
} allocator = {malloc, free};

void *take(size_t size) { return allocator.take(size); }
void give(void *block) { allocator.give(block); }
