// imports.h - what one loaded object calls by name, led elsewhere.       SPDX-License-Identifier: MIT
// Keeps:   nothing; what was led elsewhere stays so.
// Cost:    O(relocations of the object) and a store each, with the system calls of elf/patch.h where it is sealed.
// Callers: any thread with no lock of ours held. Lock rank: FLK_RANK_ATTACH, that of attach.
// Fails:   no such object, or no relocation of these names: 0. Where objects are not patched: always 0.
#ifndef FLK_IMPORTS_H
#define FLK_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct flk_import {
    const char *name;
    uintptr_t replacement;  // calls what it replaces, from another object
} flk_import;

// The object that this address lies in; how many of its words now hold a
// replacement.
size_t flk_imports_lead(uintptr_t address, const flk_import *imports,
                        size_t count);
// Do they lie in one loaded object?
bool flk_imports_share_object(uintptr_t one, uintptr_t other);

#endif
