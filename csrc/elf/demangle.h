// demangle.h - C++ names as people write them.                           SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    two look-ups by the loader; the C++ library allocates. For reports only.
// Callers: any thread, outside events, no lock held.
// Fails:   0 when there is no C++ library in the process, or the name is none of C++.
// Source:  Itanium C++ ABI, 3.4 (__cxa_demangle).
#ifndef FLK_DEMANGLE_H
#define FLK_DEMANGLE_H

#include <stddef.h>

// Fills `out` with as much as fits, its end included; returns the length of
// that text.
size_t flk_demangle_name(const char *name, char *out, size_t out_bytes);

#endif
