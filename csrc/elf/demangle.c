// demangle.c - asks the C++ library that is there. Contract: elf/demangle.h.  SPDX-License-Identifier: MIT
#include "elf/demangle.h"

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef char *(*demangler)(const char *, char *, size_t *, int *);

// It may be there for one extension only, so by its name as well.
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
        dlclose(handle);  // it was there, and its code is called just once
    }
    dlerror();  // what was not found is nobody's error
    return (demangler)found;
}

size_t flk_demangle_name(const char *name, char *out, size_t out_bytes) {
    void (*release)(void *) = free;
    demangler demangle = find();
    int problem = 0;
    char *text =
        demangle && out_bytes > 0 ? demangle(name, NULL, NULL, &problem) : NULL;
    if (!text)
        return 0;
    size_t length = strlen(text);
    if (length >= out_bytes)
        length = out_bytes - 1;
    memcpy(out, text, length);
    out[length] = '\0';
    release(text);
    return length;
}
#else
size_t flk_demangle_name(const char *name, char *out, size_t out_bytes) {
    (void)name, (void)out, (void)out_bytes;
    return 0;
}
#endif
