// results.h - what runs in place of strdup, getline, scanf, fopen, fclose and similar functions.  SPDX-License-Identifier: MIT
// Keeps:   nothing; a running function is marked in its thread (hooks/returned.h).
// Cost:    off or idle: one load and a branch. Else what the function allocates is noted, and one event is recorded for
//          each block or object that it returns.
// Callers: stubs, in any thread, as those of hooks/bodies.h.
// Fails:   never to the caller.
// Invariant: an object of the C library is one block, at the address that its closing function finds. Frees of that
//            address inside the closing function are part of it.
#ifndef FLK_RESULTS_H
#define FLK_RESULTS_H

#include <stdio.h>

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
// The block is the result, or what an argument points to afterwards.
FLK_NOINLINE uintptr_t flk_results_return(uintptr_t a, uintptr_t b, uintptr_t c,
                                          uintptr_t d, uintptr_t e,
                                          uint32_t stub, const void *caller);
// fopencookie: its third argument is passed in memory.
FLK_NOINLINE FILE *flk_results_cookie(void *cookie, const char *mode,
                                      cookie_io_functions_t io, uint32_t stub,
                                      const void *caller);
// scandir: an array of blocks.
FLK_NOINLINE uintptr_t flk_results_list(uintptr_t a, uintptr_t b, uintptr_t c,
                                        uintptr_t d, uintptr_t e, uint32_t stub,
                                        const void *caller);
// vsscanf: `c` is the address of a va_list; of vscanf: `b`.
FLK_NOINLINE uintptr_t flk_results_scan(uintptr_t a, uintptr_t b, uintptr_t c,
                                        uint32_t stub, const void *caller);
// glob, regcomp, getaddrinfo, newlocale: an object that is found in a structure,
// or that takes the place of an earlier one.
FLK_NOINLINE uintptr_t flk_results_object(uintptr_t a, uintptr_t b, uintptr_t c,
                                          uintptr_t d, uint32_t stub,
                                          const void *caller);
// fclose, globfree.
FLK_NOINLINE uintptr_t flk_results_close(uintptr_t a, uintptr_t b, uintptr_t c,
                                         uint32_t stub);
#endif
#endif
