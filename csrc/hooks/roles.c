// roles.c - names of runtimes and of libraries that call by pointer. Contract: hooks/roles.h.  SPDX-License-Identifier: MIT
#include "hooks/roles.h"

#include <string.h>

#include "base/platform.h"

// Beginnings of file names. A wheel may contain a copy of its own, as
// libstdc++-4a6d5a63.so.6.
static const char *const runtimes[] = {"libstdc++.", "libstdc++-",
                                       "libc++.",    "libc++-",
                                       "libc++abi.", "libc++abi-"};
// cffi, ctypes, the libffi that both may use, and interpreters with a ctypes of
// their own.
static const char *const callers_by_pointer[] = {
    "_cffi_backend.", "libffi.", "libffi-", "_ctypes.", "python", "libpython"};
#define BEGINS(path, names) begins(path, names, sizeof(names) / sizeof *(names))

static bool begins(const char *path, const char *const *names, size_t count) {
    FLK_ASSERT(path != NULL);
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < count; i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

bool flk_roles_is_runtime(const char *path) { return BEGINS(path, runtimes); }

// The C library has blocks of its own (streams, locales), which are recorded
// only if a pattern names it.
static flk_caller kind_of_passed(flk_selection_object *object,
                                 bool is_c_library) {
    if (flk_selection_names(object))
        return FLK_CALLER_TRACED;
    return !is_c_library && flk_selection_bars(object) ? FLK_CALLER_UNTRACED
                                                       : FLK_CALLER_PASSED;
}

flk_caller flk_roles_kind(flk_selection_object *object, bool is_c_library) {
    FLK_ASSERT(object != NULL);
    if (is_c_library || flk_roles_is_runtime(object->path))
        return kind_of_passed(object, is_c_library);
    if (flk_selection_has(object))
        return FLK_CALLER_TRACED;
    if (flk_selection_may_have(object))
        return FLK_CALLER_LOOKS_UP;
    return BEGINS(object->path, callers_by_pointer)
               ? FLK_CALLER_LOOKS_UP_OF_NAMED
               : FLK_CALLER_UNTRACED;
}
