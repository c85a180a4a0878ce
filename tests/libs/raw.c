// raw.c - a plain library that takes memory from the interpreter.
#include <stddef.h>

extern void *PyMem_RawMalloc(size_t size);
extern void *PyMem_RawCalloc(size_t count, size_t size);
extern void *PyMem_RawRealloc(void *block, size_t size);
extern void PyMem_RawFree(void *block);

void *take(size_t size) { return PyMem_RawMalloc(size); }
void *take_zeroed(size_t size) { return PyMem_RawCalloc(1, size); }
void *resize(void *block, size_t size) { return PyMem_RawRealloc(block, size); }
void give(void *block) { PyMem_RawFree(block); }
