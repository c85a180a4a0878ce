// loaded.h - the loaded object that contains an address, and whether objects were loaded since. SPDX-License-Identifier: MIT
// Keeps:   the address of _dl_find_object, and words of the loader that change whenever it loads an object.
// Cost:    flk_loaded_at: 10 ns and no lock with glibc 2.35 or later (_dl_find_object), else dl_iterate_phdr.
//          flk_loaded_epoch: a load or two.
// Callers: flk_loaded_at, flk_loaded_epoch: any thread, from hooks, with no lock of the core held. flk_loaded_start:
//          outside events.
// Fails:   flk_loaded_at returns false for an address outside all objects.
// Invariant: if the epoch is the same in two events, no object was loaded in between. An address that is on a stack
//            in both events then lies in the same object. Checked by each start against the loader's own counter.
// Source:  _dl_find_object(3), dl_iterate_phdr(3); glibc keeps the counter dlpi_adds in its variable _rtld_global.
#ifndef FLK_LOADED_H
#define FLK_LOADED_H

#include <stdbool.h>
#include <stdint.h>

#include "elf/elf.h"

#ifdef FLK_HAS_ELF
typedef struct flk_loaded {
    uintptr_t begin, end;  // of all its segments
    uintptr_t base;        // is added to addresses in the file
    uintptr_t header;      // .eh_frame_hdr; 0 = none
    const char *path;      // "" = the program; valid while it stays loaded
} flk_loaded;

// Finds the words to watch. To be called again when objects were loaded or
// unloaded: fewer words match by chance then.
void flk_loaded_start(void);
// The object that contains the address now.
bool flk_loaded_at(uintptr_t address, flk_loaded *out);
// True if flk_loaded_at takes no lock of the loader, so that a hook may call it
// while the loader runs constructors. False before start.
bool flk_loaded_is_lock_free(void);
uint64_t flk_loaded_epoch(void);
// False if no word to watch was found. The epoch then differs each time (glibc)
// or never (musl, which unloads nothing).
bool flk_loaded_is_watched(void);
// Opens the symbols of the object, which must stay loaded meanwhile.
bool flk_loaded_open(const flk_loaded *loaded, flk_elf *out);
#endif

// Held by the forking thread during a fork. glibc does not reset the lock of
// dl_iterate_phdr in a child, so no thread may be in it when another one
// forks: start holds this lock, and attach holds FLK_RANK_ATTACH.
void flk_loaded_lock_all(void);
void flk_loaded_unlock_all(void);

#endif
