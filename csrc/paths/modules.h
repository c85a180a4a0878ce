// modules.h - the objects whose code was met on a stack: one number for each that ever was at a place.  SPDX-License-Identifier: MIT
// Keeps:   a module for each (file, contents, place) met; never removed, never renumbered. What is loaded later in the
//          same place is another module, so an address that was noted keeps its meaning after dlclose.
// Cost:    flk_modules_at: the loader is asked, a hash of the object's table of functions, one lock; for addresses not
//          seen by the thread since the last object was loaded. 64 bytes a module and a text.
// Callers: flk_modules_at: any thread, inside the guard, no lock held, for an address of code on its own stack (so the
//          object stays). Lock rank: FLK_RANK_MODULES.
// Fails:   limit or no page left: 0. Code of no object (made at run time): a module without path.
// Invariant: modules and their codes rise together; no two have the same place, path and contents.
//            Checked by flk_modules_check().
#ifndef FLK_MODULES_H
#define FLK_MODULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"
#include "elf/loaded.h"

#ifdef FLK_HAS_ELF
enum {
    FLK_MODULE_EDGE = 1,  // the Python runtime, or cffi's part of it
    FLK_MODULE_OWN = 2,   // holds this function
};

typedef struct flk_module {
    const char *path;      // "" = of no object
    uint64_t fingerprint;  // of its table of functions; 0 = it has none
    uintptr_t base;
    uint32_t code;  // of flk_sites; rises
    uint32_t flags;
} flk_module;

// The module at the address now, entered when new; `loaded` gets what the
// loader said (zeros: nothing).
uint32_t flk_modules_at(uintptr_t address, flk_loaded *loaded);
// NULL for 0 and numbers never given out. Without the lock.
const flk_module *flk_modules_get(uint32_t module);
// The module of a code of flk_sites; 0: that is Python's.
uint32_t flk_modules_of_code(uint32_t code);
// The site of an address in a module; 0: no memory.
uint32_t flk_modules_site(uint32_t module, uintptr_t address);

// Where the path of the program, or a folder, is asked of the system.
void flk_modules_start(void);
uint32_t flk_modules_count(void);
#endif
// Of a site: false if it is none of a module.
bool flk_modules_describe(uint32_t site, flk_native_place *out);
bool flk_modules_check(void);
void flk_modules_lock_all(void);
void flk_modules_unlock_all(void);

#endif
