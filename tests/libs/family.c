// family.c - each function of the malloc family, called from C.
#include <malloc.h>
#include <stdlib.h>

void *by_malloc(size_t size) { return malloc(size); }
void *by_calloc(size_t size) { return calloc(1, size); }
void *by_realloc(size_t size) { return realloc(0, size); }
void *by_reallocarray(size_t size) { return reallocarray(0, 1, size); }
void *by_aligned_alloc(size_t size) { return aligned_alloc(64, size); }
void *by_memalign(size_t size) { return memalign(64, size); }
void *by_valloc(size_t size) { return valloc(size); }
void *by_pvalloc(size_t size) { return pvalloc(size); }
void *by_posix_memalign(size_t size) {
    void *block = 0;
    return posix_memalign(&block, 64, size) == 0 ? block : 0;
}
void release(void *block) { free(block); }
void release_by_realloc(void *block) { realloc(block, 0); }
