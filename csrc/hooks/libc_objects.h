// libc_objects.h - finds the blocks of objects of the C library, and their sizes.   SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    O(parts of the object). No lock, no allocation.
// Callers: hooks/results.c, right after the call that filled the structure, or right before the one that ends it.
// Fails:   what is not understood has no block (0) or no bytes (0).
// Source:  POSIX.1 (glob.h, wordexp.h, netdb.h, net/if.h, dirent.h, scanf); the GNU C library's manual and <regex.h>.
#ifndef FLK_LIBC_OBJECTS_H
#define FLK_LIBC_OBJECTS_H

#include <stdarg.h>
#include <stdint.h>

#include "hooks/functions.h"

// The block that a structure leads to, for an object of this kind: a glob_t, a
// wordexp_t, a regex_t, a variable that holds a list of addresses. For all
// other kinds the structure is the block.
uintptr_t flk_libc_objects_block(flk_sizes kind, uintptr_t structure);
// The bytes of that block. What else belongs to the object lies in other blocks.
uint64_t flk_libc_objects_bytes(flk_sizes kind, uintptr_t structure);

// The bytes of the array that scandir makes for so many entries.
uint64_t flk_libc_objects_list_bytes(uint64_t count);
// The bytes of one entry of that array.
uint64_t flk_libc_objects_entry_bytes(uintptr_t entry);

// Calls back for each block that scanf with this format has made when it
// returned `assigned`. The bytes are at most those of the block. `list` is the va_list of the call, as it was before.
typedef void (*flk_libc_objects_made)(uintptr_t block, uint64_t bytes,
                                      void *context);
void flk_libc_objects_scanned(const char *format, va_list *list, int assigned,
                              flk_libc_objects_made made, void *context);
#endif
