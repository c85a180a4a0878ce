// operators.cpp - new and delete, and the wrong one of them.
#include <cstdlib>
#include <new>

extern "C" {
char *new_one(size_t size) { return (char *)operator new(size); }
char *new_many(size_t size) { return (char *)operator new[](size); }
char *by_malloc(size_t size) { return (char *)malloc(size); }
void delete_one(char *block) { operator delete(block); }
void delete_many(char *block) { operator delete[](block); }
void release(char *block) { free(block); }
}
