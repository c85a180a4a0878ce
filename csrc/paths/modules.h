// modules.h - the loaded objects whose code was found on a stack, as numbers. SPDX-License-Identifier: MIT
// Keeps:   a module for each (file, contents) found. Modules are never removed or renumbered. A recorded place is an
//          offset in a module, so it keeps its meaning after dlclose, whatever is loaded at the address later. A file
//          that is loaded again is the same module, also at another address.
// Cost:    flk_modules_at: a query of the loader, a hash of the object's table of functions and one lock. Called for
//          addresses that the thread has not seen since the last object was loaded. 64 bytes a module, and its path.
// Callers: flk_modules_at: any thread, inside its guard, with no lock held, for an address of code on its own stack, so
//          that the object stays loaded. Lock rank: FLK_RANK_MODULES.
// Fails:   at the limit or without memory: 0. Code outside all objects (generated code): a module without a path.
// Invariant: the ids of modules and those of their codes rise together. No two modules have the same path and
//            fingerprint; without either, no two have the same address as well. Checked by flk_modules_check().
#ifndef FLK_MODULES_H
#define FLK_MODULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"
#include "elf/loaded.h"

#ifdef FLK_HAS_ELF
enum {
    FLK_MODULE_EDGE = 1,  // the Python runtime, or _cffi_backend
    FLK_MODULE_OWN = 2,   // this extension module
};

typedef struct flk_module {
    const char *path;      // "" = code outside all objects
    uint64_t fingerprint;  // of its table of functions; 0 = it has none
    uintptr_t base;        // where it was loaded first
    uint32_t code;         // of flk_sites
    uint32_t flags;
} flk_module;

// The module that contains the address now; a new one is added. `loaded` receives
// the loader's answer. Without one it is zero, but for a `base` to count from.
uint32_t flk_modules_at(uintptr_t address, flk_loaded *loaded);
// NULL for 0 and for numbers that do not exist. Takes no lock.
const flk_module *flk_modules_get(uint32_t module);
// The module of a code of flk_sites; 0 for Python code.
uint32_t flk_modules_of_code(uint32_t code);
// The site of an address in a module that is loaded at `base` now; 0 without
// memory.
uint32_t flk_modules_site(uint32_t module, uintptr_t base, uintptr_t address);

// The site of an address on this thread's stack, or of code that is certainly
// loaded; 0 without memory.
uint32_t flk_modules_site_at(uintptr_t address);
// The name of the exported function that a native site lies in; "" if it is not
// known, or if the loader cannot be asked without a lock. The module need not
// be loaded any more.
const char *flk_modules_function(uint32_t site);

// Reads the path of the program from the system, once.
void flk_modules_start(void);
uint32_t flk_modules_count(void);
#endif
// The place of a site. False if the site is not in a module.
bool flk_modules_describe(uint32_t site, flk_native_place *out);
bool flk_modules_check(void);
void flk_modules_lock_all(void);
void flk_modules_unlock_all(void);

#endif
