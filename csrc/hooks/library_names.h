// library_names.h - whether a name means a file, as people write names of libraries.    SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    O(length). No lock, no allocation.
// Callers: any thread, from hooks too.
// Fails:   never.
#ifndef FLK_LIBRARY_NAMES_H
#define FLK_LIBRARY_NAMES_H

#include <stdbool.h>

// Whether `name`, without a slash, means the file of a library. The last part of
// the file's path counts. A name may omit "lib" at its start, and ".so" with
// what follows: "shelf", "libshelf", "shelf.so", "libshelf.so" and
// "libshelf.so.1" mean libshelf.so, libshelf.so.1 and libshelf.so.1.2. Versions
// agree if one begins with the other. What build tools add may be omitted too:
// ".cpython-311-x86_64-linux-gnu" and ".abi3" of extension modules, "-0f1e2d3c"
// of libraries that are bundled in a wheel, "-2.0" of libglib-2.0.so.
bool flk_library_names_match(const char *name, const char *file);

#endif
