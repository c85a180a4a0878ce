// roles.h - what an object is to the others, by its name and the patterns.    SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    a match of all patterns.
// Callers: any thread.
#ifndef FLK_ROLES_H
#define FLK_ROLES_H

#include <stdbool.h>

#include "hooks/callers.h"
#include "hooks/selection.h"

// A C++ runtime that is shared by the libraries of a process: libstdc++, libc++
// or libc++abi. What its code allocates belongs to the library that called it,
// because compilers inline one part of std::string and call the other.
bool flk_roles_is_runtime(const char *path);
// How calls of this object are recorded. The C library is known by its symbols.
flk_caller flk_roles_kind(flk_selection_object *object, bool is_c_library);

#endif
