// ways_of_c.c - blocks that C code takes: as calls, as tail calls, by pointers.
#include <stdlib.h>
#include <string.h>

void *plain(void) { void *block = malloc(300); return block ? block : malloc(1); }
void *tail(void) { return calloc(1, 100); }
void *resized(void) { return realloc(malloc(10), 500); }
void *text(void) { return strdup("seven.."); }
void *aligned(void) { void *block = 0; return posix_memalign(&block, 64, 96) ? 0 : block; }
void give(void *block) { free(block); }
static struct { void *(*take)(size_t); void (*give)(void *); } table = {malloc, free};
void *by_table(void) { return table.take(70); }
void give_by_table(void *block) { table.give(block); }
