// flk_newcomers.c - who is at this address, lock-free. Contract: flk_newcomers.h.  SPDX-License-Identifier: MIT
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "flk_newcomers.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <link.h>

#include "flk_callers.h"
#include "flk_choice.h"

// As glibc lays it out; older headers do not have it.
typedef struct found_object {
    unsigned long long flags;
    void *begin, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[16];  // more than any version has
} found_object;

static int (*find_object)(void *address, found_object *out);

static flk_caller find(uintptr_t address) {
    found_object object;
    if (find_object((void *)address, &object) != 0 || !object.map)
        return FLK_CALLER_UNKNOWN;
    // Who runs there keeps it loaded, and its name with it. The program has
    // none, and is in the table.
    const char *path = object.map->l_name;
    if (!path || !path[0])
        return FLK_CALLER_OTHER;
    return flk_choice_has(path) ? FLK_CALLER_ASKED : FLK_CALLER_OTHER;
}

void flk_newcomers_start(void) {
    find_object = (int (*)(void *, found_object *))dlsym(RTLD_DEFAULT,
                                                         "_dl_find_object");
    dlerror();
    flk_callers_set_newcomers(find_object ? find : NULL);
}
#endif
