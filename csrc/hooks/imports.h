// imports.h - replaces functions that one loaded object imports.         SPDX-License-Identifier: MIT
// Keeps:   nothing. The replacements stay.
// Cost:    O(relocations of the object) and a store each, with the system calls of elf/patch.h where it is sealed.
// Callers: any thread that holds no lock of the tracker. Lock rank: FLK_RANK_ATTACH, that of attach.
// Fails:   no such object, or no relocation of these names: 0. Where objects are not patched: always 0.
#ifndef FLK_IMPORTS_H
#define FLK_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct flk_import {
    const char *name;
    // Lies in another object, and calls the function that it replaces.
    uintptr_t replacement;
} flk_import;

// Patches the object that this address lies in. Returns how many of its words
// hold a replacement now.
size_t flk_imports_replace(uintptr_t address, const flk_import *imports,
                           size_t count);
// Whether both addresses lie in one loaded object.
bool flk_imports_share_object(uintptr_t one, uintptr_t other);

#endif
