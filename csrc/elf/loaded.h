// loaded.h - which loaded object an address lies in, right now, and whether that may have changed.  SPDX-License-Identifier: MIT
// Keeps:   how the loader is asked; words that change whenever it loads something.
// Cost:    at: lock-free with glibc 2.35 (_dl_find_object, 10 ns), else dl_iterate_phdr. Epoch: a load or two.
// Callers: at, epoch: any thread, from hooks, with no lock of ours held. Start: outside events.
// Fails:   an address in no object: false. Before start nothing is found.
// Invariant: the same epoch in two events: no object was loaded in between, so an address that is on a stack in
//            both lies in the same object. Checked at each start against the loader's own count.
// Source:  _dl_find_object(3), dl_iterate_phdr(3); the counter of dlpi_adds stands in glibc's _rtld_global.
#ifndef FLK_LOADED_H
#define FLK_LOADED_H

#include <stdbool.h>
#include <stdint.h>

#include "elf/elf.h"

#ifdef FLK_HAS_ELF
typedef struct flk_loaded {
    uintptr_t begin, end;  // all of it
    uintptr_t base;        // what is added to addresses in the file
    uintptr_t header;      // .eh_frame_hdr; 0 = none
    const char *path;      // "" = the program; good while it stays loaded
} flk_loaded;

// Again whenever objects came or went: the better the words are known.
void flk_loaded_start(void);
bool flk_loaded_at(uintptr_t address, flk_loaded *out);
// Whether flk_loaded_at takes no lock of the loader. False before start.
bool flk_loaded_is_lock_free(void);
uint64_t flk_loaded_epoch(void);
// Is the epoch more than a guess? For tests.
bool flk_loaded_is_watched(void);
// Its symbols. The object must stay loaded meanwhile.
bool flk_loaded_open(const flk_loaded *loaded, flk_elf *out);
#endif

// Held by the forking thread during a fork. glibc does not reset the lock of
// dl_iterate_phdr in a child, so no thread may be in it when another one
// forks: start holds this lock, and attach holds FLK_RANK_ATTACH.
void flk_loaded_lock_all(void);
void flk_loaded_unlock_all(void);

#endif
