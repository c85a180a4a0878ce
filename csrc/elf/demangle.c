// demangle.c - calls the loaded C++ library. Contract: elf/demangle.h.      SPDX-License-Identifier: MIT
#include "elf/demangle.h"

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef char *(*demangler)(const char *, char *, size_t *, int *);

// The C++ library may have been loaded for one extension only (RTLD_LOCAL), so
// it is looked up by its file names, too.
static demangler find(void) {
    static const char *const libraries[] = {NULL, "libstdc++.so.6",
                                            "libc++abi.so.1", "libc++.so.1"};
    void *found = NULL;
    for (size_t i = 0; !found && i < sizeof libraries / sizeof *libraries;
         i++) {
        void *handle = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        if (!handle)
            continue;
        found = dlsym(handle, "__cxa_demangle");
        dlclose(handle);  // RTLD_NOLOAD: it was loaded before, and stays
    }
    dlerror();  // clears the error of a failed look-up
    return (demangler)found;
}

// The result is malloc's.
static char *demangled(const char *name) {
    demangler demangle = find();
    if (!demangle)
        return NULL;
    flk_marks *marks = flk_platform_thread_marks();
    int problem = 0;
    marks->is_demangling = true;
    char *text = demangle(name, NULL, NULL, &problem);
    marks->is_demangling = false;
    return text;
}

size_t flk_demangle_name(const char *name, char *out, size_t out_bytes) {
    FLK_ASSERT(name && out);
    void (*release)(void *) = free;
    char *text = out_bytes > 0 ? demangled(name) : NULL;
    if (!text)
        return 0;
    size_t length = strlen(text);
    if (length >= out_bytes)
        length = out_bytes - 1;
    memcpy(out, text, length);
    out[length] = '\0';
    FLK_ASSERT(length < out_bytes);
    release(text);
    return length;
}
#else
size_t flk_demangle_name(const char *name, char *out, size_t out_bytes) {
    (void)name, (void)out, (void)out_bytes;
    return 0;
}
#endif
