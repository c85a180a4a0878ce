// codes.h - tells flk_sites of code objects: their texts, lines and death. SPDX-License-Identifier: MIT
// Keeps:   the code watcher (3.12+) or the wrapped deallocator of code objects (3.10, 3.11).
// Cost:    one probe for each code object that dies; nothing while they live.
// Callers: with the GIL held or not (it is taken), but in a subinterpreter not held; inside the guard; under
//          no lock of the core: the GIL is taken before the lock of flk_sites, never under it.
// Fails:   flk_codes_install says why; the walker stays closed then, all the rest works without frames.
// Source:  mechanisms.md, "Code identity without references"; PyCode_AddWatcher (3.12), tp_dealloc before.
#ifndef FLK_CODES_H
#define FLK_CODES_H

#include "base/platform.h"
#include "paths/sites.h"

// Makes code objects known to flk_sites and opens the walker (flk_pyframe)
// for the calling interpreter; once: later calls do nothing. `own_prefix` is
// the folder of this package in UTF-8, with its separator: codes whose file
// name starts with it are its own. Copied. Returns NULL, or a static text
// saying why no Python frames can be read here.
const char *flk_codes_install(const char *own_prefix);
// For the atexit module, with the GIL held: closes the walker and copies all
// that code objects still have to tell; from now on no code object is read.
// flk_codes_install has the same done without copies by Py_AtExit.
void flk_codes_close(void);

// For flk_sites_code, in the thread that has a frame of `code` on its stack:
// does the code object belong to this package? False once closed.
bool flk_codes_is_own(const void *code);
// And to those modules that call C functions for the others (_core_*.py)?
bool flk_codes_is_seam(const void *code);
// flk_sites_describe with the GIL held. Not under any lock of the core.
bool flk_codes_describe(uint32_t site, flk_site_info *out);

#endif
