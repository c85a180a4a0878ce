// codes.h - reads code objects for flk_sites, and reports their death.   SPDX-License-Identifier: MIT
// Keeps:   the code watcher (3.12 and later) or the wrapped deallocator of code objects (3.10, 3.11).
// Cost:    one probe for each code object that dies; nothing while it lives.
// Callers: any thread. The GIL may be held or not; the functions take it. In a subinterpreter it must not be held. No
//          lock of the core may be held: the GIL comes before the lock of flk_sites.
// Fails:   flk_codes_install returns the reason. The frame walker stays closed then; everything else works without
//          Python frames.
// Why:     a code object cannot be kept alive from here, because a reference count may be changed only with the GIL
//          held, and its address is soon reused by another one. But it lives while a frame of it is on a stack, and
//          every death passes through its deallocator.
// Source:  PyCode_AddWatcher (3.12); tp_dealloc of PyCode_Type before.
#ifndef FLK_CODES_H
#define FLK_CODES_H

#include "base/platform.h"
#include "paths/sites.h"

// Lets flk_sites read code objects, and opens the walker (flk_pyframe) for the
// calling interpreter. Later calls do nothing. `own_prefix` is the folder of
// this package in UTF-8, with its separator; it is copied. A code object whose
// file name begins with it is part of the package. Returns NULL, or a static
// text that says why no Python frames can be read.
const char *flk_codes_install(const char *own_prefix);
// For the atexit module: closes the walker and copies the texts and lines of all
// live code objects. No code object is read afterwards. The GIL may be released,
// as cffi does. flk_codes_install registers the same, without the copies, by
// Py_AtExit.
void flk_codes_close(void);

// True if the code object belongs to a module of this package that calls C
// functions for others (_seam/core_*.py). The calling thread must have a frame
// of it on its stack. False once closed.
bool flk_codes_is_seam(const void *code);
// As flk_sites_describe, with the GIL held. No lock of the core may be held.
bool flk_codes_describe(uint32_t site, flk_site_info *out);

#endif
