// test_objects.c - patterns, callers and protections: questions of attach about objects.  SPDX-License-Identifier: MIT
#include <errno.h>
#include <sys/stat.h>

#include "base/config.h"
#include "elf/maps.h"
#include "hooks/callers.h"
#include "hooks/library_names.h"
#include "hooks/roles.h"
#include "hooks/selection.h"
#include "hooks/slots.h"
#include "support.h"

#ifdef FLK_HAS_ELF
static bool has(const char *path) {
    flk_selection_object object = flk_selection_object_at(path);
    return flk_selection_has(&object);
}

static bool names(const char *path) {
    flk_selection_object object = flk_selection_object_at(path);
    return flk_selection_names(&object);
}

static bool may_have(const char *path) {
    flk_selection_object object = flk_selection_object_at(path);
    return flk_selection_may_have(&object);
}

static bool bars(const char *path) {
    flk_selection_object object = flk_selection_object_at(path);
    return flk_selection_bars(&object);
}

static flk_caller kind_of(const char *path, bool is_c_library) {
    flk_selection_object object = flk_selection_object_at(path);
    return flk_roles_kind(&object, is_c_library);
}

static void meet(const char *path) {
    flk_selection_object object = flk_selection_object_at(path);
    flk_selection_meet(&object);
}

static bool selected(const char *include, const char *exclude,
                     const char *path) {
    char plus[100], minus[100];
    const char *rules[2];
    size_t count = 0;
    snprintf(plus, sizeof plus, "+%s", include ? include : "");
    snprintf(minus, sizeof minus, "-%s", exclude ? exclude : "");
    if (include)
        rules[count++] = plus;
    if (exclude)
        rules[count++] = minus;
    CHECK(flk_selection_set(rules, count));
    return has(path);
}

static void test_patterns(void) {
    CHECK(selected("libfoo.so", NULL, "/usr/lib/libfoo.so"));
    CHECK(selected("/usr/*/libfoo.so", NULL, "/usr/lib/libfoo.so"));
    CHECK(!selected("libfoo.so", NULL, "/usr/lib/libfoo.so.1"));
    CHECK(selected("libfoo.so*", NULL, "/usr/lib/libfoo.so.1"));
    CHECK(selected("lib?oo*1", NULL, "libfoo.so.1.1"));
    CHECK(!selected("lib?oo*2", NULL, "libfoo.so.1.1"));
    CHECK(selected("*", NULL, "") && !selected("?", NULL, ""));
    CHECK(selected("*a*b*c", NULL, "xxaxxbxbxxc"));
}

static void test_nothing_included_is_everything(void) {
    CHECK(selected(NULL, NULL, "/x"));
    CHECK(!selected(NULL, "libpython*", "/usr/lib/libpython3.11.so"));
    CHECK(!selected("lib*", "libpython*", "libpython3.11.so"));
    CHECK(!names("libpython3.11.so"));
    CHECK(selected(NULL, NULL, "/x") && !names("/x"));
}

static void test_many_patterns_keep_their_order(void) {
    const char *rules[] = {"+a", "+bb", "+ccc", "-bb", "-d"};
    CHECK(flk_selection_set(rules, 5));
    CHECK(has("a") && !has("bb"));
    CHECK(has("ccc") && !has("d"));
    CHECK(names("/x/ccc"));
}

static void test_met_patterns_are_remembered(void) {
    const char *rules[] = {"|", "+a*", "-ab", "|", "+", "+?c", "+a*d"};
    CHECK(flk_selection_set(rules, 7));
    CHECK(!flk_selection_has_met("+a*") && !flk_selection_has_met("+ab"));
    meet("/x/ab");
    CHECK(flk_selection_has_met("+a*") && !flk_selection_has_met("+ab"));
    CHECK(!flk_selection_has_met("+?c") && !flk_selection_has_met("+a*d"));
    meet("/x/bc");
    CHECK(flk_selection_has_met("+?c") && !flk_selection_has_met("+"));
    CHECK(!flk_selection_has_met("+other"));
    CHECK(flk_selection_set(rules, 7) && !flk_selection_has_met("+a*"));
}

// An exclude of one request hides nothing that another request includes.
static void test_requests_add_up(void) {
    const char *narrow[] = {"|", "+a*", "-ab", "|", "+ab*", "-abc"};
    CHECK(flk_selection_set(narrow, 6));
    CHECK(has("a") && has("ab"));
    CHECK(has("abc") && !has("b"));
    CHECK(names("ab"));
    const char *wide[] = {"|", "-libpython*", "|", "+libpython3*", "|", "-c"};
    CHECK(flk_selection_set(wide, 4));
    CHECK(has("libpython3") && names("libpython3"));
    CHECK(has("c") && !has("libpython2"));
    CHECK(!names("c"));
    CHECK(flk_selection_set(wide, 6));
    CHECK(has("libpython2") && has("c"));
}

// Pairs of a name and a file that it means, or does not mean.
static const char *const meant[][2] = {
    {"shelf", "/usr/lib/libshelf.so"},
    {"shelf", "libshelf.so.1"},
    {"shelf", "shelf.so"},
    {"shelf", "./shelf.cpython-311-x86_64-linux-gnu.so"},
    {"shelf", "x/shelf.abi3.so"},
    {"shelf", "shelf.pypy39-pp73-x86_64-linux-gnu.so"},
    {"shelf", "/x/shelf.libs/libshelf-0f1e2d3c.so.1.2"},
    {"shelf", "libshelf-040039e1-0352e75f.so.5"},
    {"shelf", "libshelf-2.0.so.0"},
    {"shelf-2.0", "libshelf-2.0.so.0"},
    {"libshelf", "libshelf.so.1.2.3"},
    {"libshelf", "shelf.so"},
    {"libshelf.so", "libshelf.so.1"},
    {"shelf.so", "libshelf.so"},
    {"libshelf.so.1", "libshelf.so.1"},
    {"libshelf.so.1", "libshelf.so.1.2"},
    {"libshelf.so.1.2", "libshelf.so.1"},
    {"libshelf.so.1", "/x/libshelf.so"},
    {"libshelf-0f1e2d3c.so.1", "libshelf-0f1e2d3c.so.1"},
    {"_shelf", "_shelf.cpython-311-x86_64-linux-gnu.so"},
    {"python3.11", "/usr/bin/python3.11"},
    {"libpython3.11.so.1.0", "libpython3.11.so.1.0"},
    {"a.so.b", "a.so.b"},
    {"lib", "lib.so"},
};
static const char *const not_meant[][2] = {
    {"shelf", "libshelfs.so"},
    {"shelf", "libbookshelf.so"},
    {"shelff", "libshelf.so"},
    {"shel", "libshelf.so"},
    {"shelf", "_shelf.so"},
    {"shelf", "libshelf-extra.so"},
    {"shelf", "libshelf-tables.so"},
    {"shelf", "libshelf-0f1e2d3.so"},
    {"libshelf.so.1", "libshelf.so.2"},
    {"libshelf.so.1", "libshelf.so.10"},
    {"libshelf.so.1.2", "libshelf.so.1.3"},
    {"shelf", "/shelf/libother.so"},
    {"shelf-2.0", "libshelf.so"},
    {"", "libshelf.so"},
    {"shelf", ""},
    {"so", "lib.so"},
    {"Shelf", "libshelf.so"},
    {"0f1e2d3c", "libshelf-0f1e2d3c.so"},
};

static void test_names_mean_files(void) {
    for (size_t i = 0; i < sizeof meant / sizeof *meant; i++)
        CHECK(flk_library_names_match(meant[i][0], meant[i][1]));
    for (size_t i = 0; i < sizeof not_meant / sizeof *not_meant; i++)
        CHECK(!flk_library_names_match(not_meant[i][0], not_meant[i][1]));
}

static void test_names_select(void) {
    const char *rules[] = {"|", "=shelf", "!libshelf.so.2"};
    CHECK(flk_selection_set(rules, 3));
    CHECK(has("/x/libshelf.so.1") && names("/x/libshelf.so.1"));
    CHECK(!has("/x/libshelf.so.2") && !has("/x/libshelves.so"));
    CHECK(!flk_selection_has_met("=shelf"));
    meet("/x/libshelves.so");
    CHECK(!flk_selection_has_met("=shelf"));
    meet("/x/libshelf.so.1");
    CHECK(flk_selection_has_met("=shelf"));
    CHECK(!flk_selection_has_met("+shelf"));
    CHECK(!flk_selection_has_met("!libshelf.so.2"));
}

// Device and inode, whatever the path is.
static void test_files_select(void) {
    char folder[] = "/tmp/flk-selection-XXXXXX";
    char file[100], link[100], rule[100];
    const char *rules[] = {"|", rule};
    struct stat of;
    CHECK(mkdtemp(folder) != NULL);
    snprintf(file, sizeof file, "%s/libone.so", folder);
    snprintf(link, sizeof link, "%s/libtwo.so", folder);
    FILE *made = fopen(file, "w");
    CHECK(made != NULL && fclose(made) == 0);
    CHECK(symlink(file, link) == 0 && stat(file, &of) == 0);
    snprintf(rule, sizeof rule, "#%jx:%jx", (uintmax_t)of.st_dev,
             (uintmax_t)of.st_ino);
    CHECK(flk_selection_set(rules, 2));
    errno = 77;
    CHECK(has(file) && has(link) && !has(folder) && !has("/x") && errno == 77);
    CHECK(!has("libone.so") && !has("relative/libone.so"));
    rule[0] = '%';
    CHECK(flk_selection_set(rules, 2));
    CHECK(!has(link) && has("/x"));
    flk_selection_object relative = {.path = "./other.so", .absolute = link};
    CHECK(!flk_selection_has(&relative));
    CHECK(flk_selection_set((const char *[]){"+*two.so"}, 1));
    CHECK(!has("./other.so"));
    CHECK(flk_selection_has(&relative));
    CHECK(unlink(link) == 0 && unlink(file) == 0 && rmdir(folder) == 0);
}

static void test_the_file_of_an_address_is_read(void) {
    char path[4096], none[4096], cut[4];
    uintptr_t here = (uintptr_t)test_files_select;
    CHECK(flk_maps_path(here, path, sizeof path));
    CHECK(path[0] == '/' && access(path, R_OK) == 0);
    CHECK(!flk_maps_path(here, cut, sizeof cut));
    CHECK(!flk_maps_path((uintptr_t)path, none, sizeof none) ||
          none[0] != '/');  // the stack
    CHECK(!flk_maps_path(1, none, sizeof none));
}

// "~" excludes an object's own calls; "-" all that has to do with it.
static void test_excludes_by_default(void) {
    const char *rules[] = {"|", "-a*", "~b*"};
    CHECK(flk_selection_set(rules, 3));
    CHECK(!has("a") && !may_have("a"));
    CHECK(!has("b") && may_have("b"));
    CHECK(has("c") && may_have("c"));
    CHECK(bars("a") && !bars("b"));
    const char *two[] = {"|", "-a*", "|", "+ab"};
    CHECK(flk_selection_set(two, 4) && !bars("ac"));
}

// The C++ runtime and the C library are recorded as what calls them, unless a
// pattern names or excludes them.
static void test_kinds_of_objects(void) {
    const char *rules[] = {"|", "~python3*", "~_cffi*", "-bad*"};
    CHECK(flk_selection_set(rules, 4));
    CHECK(kind_of("/usr/lib/libstdc++.so.6", false) == FLK_CALLER_PASSED);
    CHECK(kind_of("/x/libc++abi-3f.so.1", false) == FLK_CALLER_PASSED);
    CHECK(kind_of("/lib/libc.so.6", true) == FLK_CALLER_PASSED);
    CHECK(kind_of("/x/libc++x.so", false) == FLK_CALLER_TRACED);
    CHECK(kind_of("/bin/python3.11", false) == FLK_CALLER_LOOKS_UP);
    CHECK(kind_of("_cffi_backend.so", false) == FLK_CALLER_LOOKS_UP);
    CHECK(kind_of("bad.so", false) == FLK_CALLER_UNTRACED);
    const char *named[] = {"|", "+libstdc++*", "+libc.so*"};
    CHECK(flk_selection_set(named, 3));
    CHECK(kind_of("libstdc++.so.6", false) == FLK_CALLER_TRACED);
    CHECK(kind_of("libc.so.6", true) == FLK_CALLER_TRACED);
    CHECK(kind_of("libffi.so.8", false) == FLK_CALLER_LOOKS_UP_OF_NAMED);
    CHECK(kind_of("libx.so", false) == FLK_CALLER_UNTRACED);
    const char *barred[] = {"|", "-libstdc++*"};
    CHECK(flk_selection_set(barred, 2));
    CHECK(kind_of("libstdc++.so.6", false) == FLK_CALLER_UNTRACED);
}

static void test_ranges_are_found(void) {
    flk_callers_begin();
    flk_callers_add(0x5000, 0x6000, FLK_CALLER_TRACED);
    flk_callers_add(0x1000, 0x3000, FLK_CALLER_UNTRACED);
    flk_callers_add(0x3000, 0x4000, FLK_CALLER_TRACED);
    flk_callers_end(false);
    CHECK(flk_callers_count() == 3);
    CHECK(flk_callers_find(0xfff) == FLK_CALLER_UNKNOWN);
    CHECK(flk_callers_find(0x1000) == FLK_CALLER_UNTRACED);
    CHECK(flk_callers_find(0x2fff) == FLK_CALLER_UNTRACED);
    CHECK(flk_callers_find(0x3000) == FLK_CALLER_TRACED);
    CHECK(flk_callers_find(0x4000) == FLK_CALLER_UNKNOWN);
    CHECK(flk_callers_find(0x5fff) == FLK_CALLER_TRACED);
    CHECK(flk_callers_find(0x6000) == FLK_CALLER_UNKNOWN);
}

static void test_too_many_ranges_are_unknown(void) {
    flk_callers_begin();
    for (uintptr_t i = 0; i < FLK_OBJECTS_MAX + 5; i++)
        flk_callers_add(0x10000 + i * 0x1000, 0x10800 + i * 0x1000,
                        FLK_CALLER_TRACED);
    flk_callers_end(false);
    CHECK(flk_callers_count() == FLK_OBJECTS_MAX);
    CHECK(flk_callers_left_out() == 5);
    CHECK(flk_callers_find(0x10000) == FLK_CALLER_TRACED);
}

static atomic_int notices;
static flk_late notice(unsigned function) {
    atomic_fetch_add(&notices, 1);
    return function == 3 ? FLK_LATE_TRACED : FLK_LATE_OTHERS;
}
static flk_caller find_late(uintptr_t address) {
    return address == 0x9000 ? FLK_CALLER_TRACED : FLK_CALLER_UNKNOWN;
}

static void test_late_objects_are_found_by_a_callback(void) {
    flk_callers_begin();
    flk_callers_add(0x5000, 0x6000, FLK_CALLER_TRACED);
    flk_callers_end(false);
    flk_callers_set_late_objects(notice, find_late);
    CHECK(flk_callers_find(0x9000) == FLK_CALLER_TRACED);
    CHECK(flk_callers_listed(0x9000) == FLK_CALLER_UNKNOWN);
    CHECK(flk_callers_find(0x5000) == FLK_CALLER_TRACED);
    CHECK(flk_callers_notice(3) == FLK_LATE_TRACED);
    CHECK(flk_callers_notice(4) == FLK_LATE_OTHERS);
    CHECK(atomic_load(&notices) == 2);
    flk_callers_set_late_objects(NULL, NULL);
    CHECK(flk_callers_notice(3) == FLK_LATE_NO);
    CHECK(flk_callers_find(0x9000) == FLK_CALLER_UNKNOWN);
}

// Two tables in turn; each reader sees one or the other.
static atomic_bool is_over;

static void *read_ranges(void *unused) {
    while (!atomic_load(&is_over)) {
        CHECK(flk_callers_find(0x100000) == FLK_CALLER_TRACED);
        CHECK(flk_callers_find(0x90000) == FLK_CALLER_UNKNOWN);
    }
    return unused;
}

static void test_readers_see_whole_tables(void) {
    pthread_t thread;
    flk_callers_begin();
    flk_callers_add(0x100000, 0x101000, FLK_CALLER_TRACED);
    flk_callers_end(false);
    pthread_create(&thread, NULL, read_ranges, NULL);
    for (int i = 0; i < few_or_many(200, 2000, 20000); i++) {
        flk_callers_begin();
        for (uintptr_t k = 0; k < (uintptr_t)(i % 7); k++)
            flk_callers_add(0x10000 + 0x1000 * k, 0x11000 + 0x1000 * k,
                            i & 1 ? FLK_CALLER_TRACED : FLK_CALLER_PASSED);
        flk_callers_add(0x100000, 0x101000, FLK_CALLER_TRACED);
        flk_callers_end(false);
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
}

static void test_protections_are_read(void) {
    static int data;
    flk_maps_range range;
    CHECK(flk_maps_find((uintptr_t)&data, &range));
    CHECK(range.may == (FLK_PAGE_READ | FLK_PAGE_WRITE));
    CHECK(range.begin <= (uintptr_t)&data && (uintptr_t)&data < range.end);
    CHECK(flk_maps_find((uintptr_t)test_protections_are_read, &range));
    CHECK(range.may == (FLK_PAGE_READ | FLK_PAGE_EXECUTE));
    CHECK(!flk_maps_find(1, &range));
    size_t page = flk_platform_page_bytes();
    char *pages = flk_platform_pages_map(3 * page, page);
    uintptr_t middle = (uintptr_t)pages + page;
    CHECK(flk_platform_pages_protect(middle + 8, 8, FLK_PAGE_READ));
    CHECK(flk_maps_find(middle, &range) && range.may == FLK_PAGE_READ);
    CHECK(range.begin == middle && range.end == middle + page);
    CHECK(flk_platform_pages_protect(middle, 8, FLK_PAGE_WRITE));
    pages[page] = 1;
    CHECK(!flk_platform_pages_protect(1, 8, FLK_PAGE_READ));
    flk_platform_pages_unmap(pages, 3 * page);
}

static void test_unbound_slots_are_kept(void) {
    static uintptr_t words[FLK_UNBOUND_MAX + 2];
    flk_slots_unbound_note(&words[0], 7);
    flk_slots_unbound_note(&words[0], 8);
    CHECK(flk_slots_unbound_value(&words[0]) == 7);
    CHECK(flk_slots_unbound_value(&words[1]) == 0);
    for (int i = 1; i < FLK_UNBOUND_MAX + 2; i++)
        flk_slots_unbound_note(&words[i], 9);
    CHECK(flk_slots_unbound_value(&words[FLK_UNBOUND_MAX - 1]) == 9);
    CHECK(flk_slots_unbound_value(&words[FLK_UNBOUND_MAX]) == 0);
    flk_slots_unbound_clear();
    CHECK(flk_slots_unbound_value(&words[0]) == 0);
}

int main(void) {
    start();
    RUN(test_patterns);
    RUN(test_nothing_included_is_everything);
    RUN(test_many_patterns_keep_their_order);
    RUN(test_met_patterns_are_remembered);
    RUN(test_requests_add_up);
    RUN(test_names_mean_files);
    RUN(test_names_select);
    RUN(test_files_select);
    RUN(test_the_file_of_an_address_is_read);
    RUN(test_excludes_by_default);
    RUN(test_kinds_of_objects);
    RUN(test_ranges_are_found);
    RUN(test_too_many_ranges_are_unknown);
    RUN(test_late_objects_are_found_by_a_callback);
    RUN(test_readers_see_whole_tables);
    RUN(test_protections_are_read);
    RUN(test_unbound_slots_are_kept);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif
