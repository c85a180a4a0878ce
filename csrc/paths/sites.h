// sites.h - code objects and places in them, as small numbers.           SPDX-License-Identifier: MIT
// Keeps:   a code (a function's text and name) for each code object seen, a site for each (code, offset).
//          A live code is known by its address; when the code object dies its texts and lines are copied
//          here and the address is retired, so that a later code object there gets a new id. Ids are never reused.
// Cost:    flk_sites_code and flk_sites_intern: one probe, one lock. Called on paths not seen before only.
//          32 bytes a code, 20 a site, 4 to 8 for each in an index; a text that was seen lately is shared.
// Callers: any thread, inside the guard, GIL not needed. Lock rank: FLK_RANK_CODES.
// Fails:   limit or no page left: returns 0 (no code, no site) and the caller counts a drop; texts that
//          could not be copied read "".
// Invariant: a live address maps to one unretired code; each site hangs in the list of its code;
//            a code has both texts or none; one without address is not read. Checked by flk_sites_check().
#ifndef FLK_SITES_H
#define FLK_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

// Id (> 0) of the code object at `address`, entered when new. `own` is asked
// once for a new one, under the lock: is it part of this package, never to
// be shown? The code object must be alive: a frame of it on this stack.
uint32_t flk_sites_code(const void *address, bool (*own)(const void *));
// A code known by its text alone (interpreters without a walker); a new id
// each time: the caller keeps it. Its offsets are line numbers.
uint32_t flk_sites_named(const char *function, const char *filename);
// Id (> 0) of the site; 0 also if there is no such code.
uint32_t flk_sites_intern(uint32_t code, int32_t offset);
// Without the lock. Of 0 and of ids never given out: false, 0, -1.
bool flk_sites_code_is_own(uint32_t code);
uint32_t flk_sites_code_of(uint32_t site);
int32_t flk_sites_offset_of(uint32_t site);

// Rises whenever a known code object dies: whoever keeps raw addresses of
// code objects must forget them when it has changed.
uint64_t flk_sites_generation(void);

// What the owner of code objects (paths/codes.c) supplies: fills the texts of
// the object at `address`, and one line, while it is alive. Texts are copied
// before the next call. Both run under the lock of this module: they must
// not allocate, run Python code or take the GIL. NULL: from now on only
// what was copied is told.
typedef struct flk_sites_reader {
    void (*names)(const void *address, const char **function,
                  const char **filename);
    void (*line)(const void *address, int32_t offset, flk_site_info *out);
} flk_sites_reader;
void flk_sites_set_reader(const flk_sites_reader *reader);

// The code object at `address` is about to die: if known, its texts and the
// lines of all its sites are copied and it is not read again. It keeps its
// address, so frames that still name it get the same id.
void flk_sites_dying(const void *address);
// The same (unless done), and the address is retired.
void flk_sites_retire(const void *address);
// Copies what a live code object still has to tell, for all of them.
void flk_sites_freeze_all(void);
// Reads the texts of a site, from the live code object or from the copy.
// False if no such site. A code object that dies meanwhile waits for this.
bool flk_sites_describe(uint32_t site, flk_site_info *out);

uint32_t flk_sites_code_count(void);
uint32_t flk_sites_count(void);
// O(codes + sites) expected; takes the lock.
bool flk_sites_check(void);
void flk_sites_lock_all(void);
void flk_sites_unlock_all(void);

#endif
