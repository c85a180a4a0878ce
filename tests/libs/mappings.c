// mappings.c - maps, unmaps a part, moves.
#include <sys/mman.h>

void *map(size_t size) {
    return mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
}
int unmap(char *start, size_t offset, size_t size) {
    return munmap(start + offset, size);
}
void *remap(void *start, size_t size, size_t new_size) {
    return mremap(start, size, new_size, MREMAP_MAYMOVE);
}
