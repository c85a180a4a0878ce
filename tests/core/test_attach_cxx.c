// test_attach_cxx.c - operators new and delete, right and wrong.             SPDX-License-Identifier: MIT
#include "libraries.h"

#if !IS_SANITIZED
// Compiled as C++; without a C++ compiler nothing is tested.
static const char source[] =
    "#include <cstdlib>\n#include <cstring>\n#include <new>\n"
    "#include <stdexcept>\n#include <string>\n"
    "struct alignas(64) wide { char text[192]; };\n"
    "extern \"C\" {\n"
    "void *one() { return ::operator new(40); }\n"
    "void delete_one(void *p) { ::operator delete(p); }\n"
    "void delete_sized(void *p) { ::operator delete(p, (std::size_t)40); }\n"
    "void *many() { return new char[50]; }\n"
    "void delete_many(void *p) { delete[] (char *)p; }\n"
    "void *without_throw() { return new (std::nothrow) char[60]; }\n"
    "void *aligned() { return new wide; }\n"
    "void delete_aligned(void *p) { delete (wide *)p; }\n"
    "void *plain() { return std::malloc(70); }\n"
    "void give(void *p) { std::free(p); }\n"
    "long too_much() { volatile std::size_t n = (std::size_t)-1 / 4;\n"
    "  try { return (long)::operator new(n); }\n"
    "  catch (std::bad_alloc &) { return -1; } }\n"
    "long thrown() { try { throw std::runtime_error(\"x\"); }\n"
    "  catch (std::exception &e) { return std::strlen(e.what()); } }\n"
    "}\n";

static void *cxx;

static uint64_t mismatches(void) { return attach_figures().mismatched_frees; }

static void check_pair(const char *make, uint64_t size, const char *type,
                       const char *release) {
    uint64_t wrong = mismatches(), foreign = attach_figures().foreign_frees;
    uint64_t live = live_in(0);
    uintptr_t p = CALL(cxx, make)();
    CHECK(size_at(p) == size && live_in(0) == live + 1);
    CHECK_TEXT(type, type_at(p));
    CALL(cxx, release)(p);
    CHECK(!is_live(p) && live_in(0) == live && mismatches() == wrong);
    CHECK(attach_figures().foreign_frees == foreign);
}

static void test_each_new_has_its_delete(void) {
    attach_to("libcxx.so");
    check_pair("one", 40, "operator new", "delete_one");
    check_pair("one", 40, "operator new", "delete_sized");
    check_pair("many", 50, "operator new[]", "delete_many");
    check_pair("without_throw", 60, "operator new[]", "delete_many");
    check_pair("aligned", 192, "operator new", "delete_aligned");
    check_pair("plain", 70, "malloc", "give");
    flk_attach_end();
}

static void check_mismatch(const char *make, const char *release) {
    uint64_t wrong = mismatches();
    uintptr_t p = CALL(cxx, make)();
    CHECK(is_live(p));
    CALL(cxx, release)(p);
    CHECK(!is_live(p) && mismatches() == wrong + 1);
}

static void test_wrong_release_is_counted_and_done(void) {
    if (is_slow_tool())
        return;  // valgrind reports the mismatch itself
    attach_to("libcxx.so");
    check_mismatch("one", "give");
    check_mismatch("one", "delete_many");
    check_mismatch("many", "delete_one");
    check_mismatch("plain", "delete_one");
    flk_attach_end();
    CHECK(flk_tracker_check());
}

static void test_exceptions_pass_through_hooks(void) {
    attach_to("libcxx.so");
    uint64_t live = live_in(0);
    if (!is_slow_tool())  // its own operator new aborts
        CHECK((long)CALL(cxx, "too_much")() == -1);
    CHECK(CALL(cxx, "thrown")() == 1);
    CHECK(live_in(0) == live);
    check_pair("one", 40, "operator new", "delete_one");
    flk_attach_end();
}

// If the C++ library is traced, too, malloc below operator new is not reported
// a second time.
static void test_traced_provider_is_reported_once(void) {
    const char *rules[] = {"+libcxx.so", "+libstdc++*"};
    char reason[100];
    flk_attach_options options = {.rules = rules, .rule_count = 2};
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == 0);
    uint64_t missed = self_figures().missed_frees;
    check_pair("one", 40, "operator new", "delete_one");
    check_pair("many", 50, "operator new[]", "delete_many");
    CHECK(self_figures().missed_frees == missed);
    flk_attach_end();
}

static void test_whole_process(void) {
    attach_to(NULL);
    check_pair("many", 50, "operator new[]", "delete_many");
    check_pair("aligned", 192, "operator new", "delete_aligned");
    uint64_t live = live_in(0);
    CALL(cxx, "thrown")();
    CHECK(live_in(0) == live);
    flk_attach_end();
}

int main(void) {
    start();
    if (system("c++ --version > /dev/null 2>&1") != 0)
        return DONE();
    setenv("CC", "c++ -x c++ -std=c++17", 1);
    cxx = opened(library("cxx", source, ""), RTLD_NOW);
    RUN(test_each_new_has_its_delete);
    RUN(test_wrong_release_is_counted_and_done);
    RUN(test_exceptions_pass_through_hooks);
    RUN(test_traced_provider_is_reported_once);
    RUN(test_whole_process);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif
