// sites.h - code objects and places in them, as small numbers.           SPDX-License-Identifier: MIT
// Keeps:   a code for each code object that was seen: its texts and a list of its sites. A site is a (code, offset)
//          pair: a place in the code object. A live code object is found by its address. When it dies, its texts and
//          the lines of its sites are copied and the address is retired. A new code object with equal texts and lines
//          (a function that is exec'd again) then gets the retired code, so memory grows with distinct code only.
// Cost:    flk_sites_code, flk_sites_intern: one probe and one lock; for a new code object a hash of its texts and
//          line table. Called only for paths not seen before. 40 bytes a code, 20 a site, 4 to 8 for each in an
//          index. Texts copied recently are shared.
// Callers: any thread; the GIL is not needed. Each function that takes the lock sets the guard of the thread
//          meanwhile. Lock rank: FLK_RANK_CODES.
// Fails:   at a limit or without memory a function returns 0, and the caller counts a drop. A text that could not be
//          copied reads "".
// Invariant: the address of a live code object belongs to one code. Each site is in the list of its code. A code has
//            both texts or none. A code object without an address is not read. A code means the same function, file
//            and lines for ever. Checked by flk_sites_check().
#ifndef FLK_SITES_H
#define FLK_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

// The id (> 0) of the code object at `address`. The code object must be alive:
// a frame of it is on the stack of this thread.
uint32_t flk_sites_code(const void *address);
// Whether there is a code object at `address`, as far as was seen. A dying one
// must not be read any more. Takes the lock.
typedef enum flk_code_state {
    FLK_CODE_UNKNOWN,
    FLK_CODE_LIVE,
    FLK_CODE_DYING,
} flk_code_state;
flk_code_state flk_sites_state(const void *address);
// A code that has only texts, for interpreters whose frames cannot be walked.
// The id is new each time, so the caller keeps it. Offsets are line numbers.
uint32_t flk_sites_named(const char *function, const char *filename);
// The id (> 0) of a site; 0 also if there is no such code.
uint32_t flk_sites_intern(uint32_t code, int32_t offset);
// These take no lock. For ids that do not exist: false, 0, -1.
bool flk_sites_code_is_own(uint32_t code);  // part of this package
uint32_t flk_sites_code_of(uint32_t site);
int32_t flk_sites_offset_of(uint32_t site);

// Rises whenever a known code object dies. Remembered addresses of code objects
// are valid only while it does not change.
uint64_t flk_sites_generation(void);

// What distinguishes a code object from others, apart from its address.
typedef struct flk_code_identity {
    const char *function, *filename;  // valid until the reader's next call
    uint64_t lines_hash;              // of its first line and its line table
    bool is_own;                      // part of this package
} flk_code_identity;

// Reads a live code object; supplied by paths/codes.c. All three functions run
// under the lock of this module, so they must not allocate, run Python code or
// take the GIL.
typedef struct flk_sites_reader {
    // For a code object that has a frame on the stack of this thread; the GIL
    // is not held. False: it cannot be read any more.
    bool (*identify)(const void *address, flk_code_identity *out);
    // The texts, valid until the next call.
    void (*names)(const void *address, const char **function,
                  const char **filename);
    // Line and column of one place.
    void (*line)(const void *address, int32_t offset, flk_site_info *out);
} flk_sites_reader;
// NULL: from now on only what was copied is reported.
void flk_sites_set_reader(const flk_sites_reader *reader);

// The code object at `address` is about to die. If it is known, its texts and
// the lines of all its sites are copied, and it is not read again. It keeps its
// address: a frame that still refers to it gets the same id.
void flk_sites_dying(const void *address);
// As flk_sites_dying, and the address is retired.
void flk_sites_retire(const void *address);
// Copies the texts and lines of all live code objects.
void flk_sites_freeze_all(void);
// The texts of a site, from the live code object or from the copy. False if
// there is no such site. A code object that dies meanwhile waits for the lock.
bool flk_sites_describe(uint32_t site, flk_site_info *out);

uint32_t flk_sites_code_count(void);
uint32_t flk_sites_count(void);
// O(codes + sites) expected; takes the lock.
bool flk_sites_check(void);
void flk_sites_lock_all(void);
void flk_sites_unlock_all(void);

#endif
