// libraries.h - shared libraries that a test builds, loads and calls.        SPDX-License-Identifier: MIT
// Use:     const char *path = library("a", "source", "flags"); handle = opened(path, RTLD_NOW); CALL(...)
// Keeps:   a folder in $TMPDIR, removed at exit.
#ifndef FLK_LIBRARIES_H
#define FLK_LIBRARIES_H

#include <dlfcn.h>
#include <link.h>

#include "hooks/attach.h"
#include "support.h"

static char library_folder[256];
static pid_t library_owner;

static void remove_libraries(void) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", library_folder);
    if (getpid() == library_owner && system(command) != 0)
        perror(command);
}

static inline void make_folder(void) {
    if (library_folder[0])
        return;
    const char *parent = getenv("TMPDIR");
    snprintf(library_folder, sizeof library_folder, "%s/flkXXXXXX",
             parent ? parent : "/tmp");
    CHECK(mkdtemp(library_folder) != NULL);
    library_owner = getpid();
    atexit(remove_libraries);
}

// Compiles a library; the path is good until the next call.
static inline const char *library(const char *name, const char *source,
                                  const char *flags) {
    static char path[400];
    char file[400], command[2000];
    make_folder();
    snprintf(path, sizeof path, "%s/lib%s.so", library_folder, name);
    snprintf(file, sizeof file, "%s/%s.c", library_folder, name);
    FILE *out = fopen(file, "w");
    CHECK(out && fputs(source, out) >= 0 && fclose(out) == 0);
    const char *compiler = getenv("CC");
    snprintf(command, sizeof command,
             "%s -D_GNU_SOURCE -w -fPIC -shared -fno-builtin -o %s %s %s",
             compiler ? compiler : "cc", path, file, flags);
    CHECK(system(command) == 0);
    return path;
}

static inline void *opened(const char *path, int mode) {
    void *handle = dlopen(path, mode);
    if (!handle)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(handle != NULL);
    return handle;
}

static inline void *function_of(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    CHECK(found != NULL);
    return found;
}

// Calls a function of a library: CALL(handle, name)(arguments), where
// everything is a word.
typedef uintptr_t (*word_function)();
#define CALL(handle, name) ((word_function)function_of(handle, name))

// Attached to the objects that match; NULL: to all.
static inline void attach_to(const char *pattern) {
    char reason[200] = "", rule[200];
    const char *rules[] = {rule};
    snprintf(rule, sizeof rule, "+%s", pattern ? pattern : "");
    flk_attach_options options = {.rules = rules,
                                  .rule_count = pattern ? 1 : 0};
    if (flk_attach_begin(&options, reason, sizeof reason) != 0)
        fprintf(stderr, "%s\n", reason);
    CHECK(reason[0] == '\0');
}

static inline flk_attach_figures attach_figures(void) {
    flk_attach_figures figures;
    flk_attach_read(&figures);
    return figures;
}

// The record of a block of the heap.
static inline bool is_recorded(uintptr_t address, flk_record *out) {
    return flk_registry_find(FLK_LAYER_HEAP, address, out);
}

static inline bool is_live(uintptr_t address) {
    flk_record record;
    return is_recorded(address, &record);
}

static inline uint64_t size_at(uintptr_t address) {
    flk_record record;
    return is_recorded(address, &record) ? record.size_bytes : 0;
}

static inline const char *type_at(uintptr_t address) {
    flk_record record;
    return is_recorded(address, &record) ? flk_names_at(record.type)->type : "";
}

#endif
