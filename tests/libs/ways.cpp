// ways.cpp - blocks that C++ code takes: by itself, and through its runtime.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#ifdef OWN_NEW
// An allocator of the library: a header of 16 bytes, and no runtime's.
void *operator new(size_t size) {
    char *block = (char *)malloc(size + 16);
    if (!block)
        throw std::bad_alloc();
    return block + 16;
}
void operator delete(void *block) noexcept {
    if (block)
        free((char *)block - 16);
}
void operator delete(void *block, size_t) noexcept { operator delete(block); }
#endif

extern "C" {
void *plain(void) { void *block = malloc(300); return block ? block : malloc(1); }
void *tail(void) { return calloc(1, 100); }
void *resized(void) { return realloc(malloc(10), 500); }
void *text(void) { return strdup("seven.."); }
void give(void *block) { free(block); }
void *one(void) { return new int; }
void give_one(void *block) { delete (int *)block; }
void *many(void) { return new char[50]; }
void give_many(void *block) { delete[] (char *)block; }
void *string(void) { return new std::string(100, 'x'); }
void give_string(void *block) { delete (std::string *)block; }
void *error(void) { return new std::runtime_error(std::string(77, 'z')); }
void give_error(void *block) { delete (std::runtime_error *)block; }
void *stream(void) { auto *made = new std::stringstream; *made << std::string(200, 'y'); return made; }
void give_stream(void *block) { delete (std::stringstream *)block; }
void *file(void) { return new std::fstream("/dev/null", std::ios::out); }
void give_file(void *block) { delete (std::fstream *)block; }
void *thrown(void) { try { throw std::runtime_error(std::string(90, 'e')); } catch (std::exception &) { return nullptr; } }
int too_much(void) { volatile size_t most = (size_t)-1 / 4; try { operator new(most); } catch (std::bad_alloc &) { return 1; } return 0; }
static void *taken;
static void take_and_stop(void) { taken = malloc(77); std::set_new_handler(nullptr); }
int handled(void) { std::set_new_handler(take_and_stop); return too_much(); }
void grow(void *block) { ((std::string *)block)->reserve(1000); }
}
