// demangle.h - readable C++ names.                                        SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    look-ups by the loader; the C++ library allocates. For reports only.
// Callers: any thread, outside events, with no lock held.
// Fails:   0 if no C++ library is loaded, or the name is not a mangled C++ name.
// Source:  Itanium C++ ABI, 3.4 (__cxa_demangle).
#ifndef FLK_DEMANGLE_H
#define FLK_DEMANGLE_H

#include <stddef.h>

// Writes as much of the readable name to `out` as fits, zero-terminated, and
// returns the length of that text.
size_t flk_demangle_name(const char *name, char *out, size_t out_bytes);

#endif
