// providers.h - the objects that define an allocator, and their own functions.  SPDX-License-Identifier: MIT
// Keeps:   a place for each provider, which is also the number of its hook set; the addresses of its functions stand
//          in flk_hook. A place is given away only when its object is gone.
// Cost:    O(symbols) a provider.
// Callers: under FLK_RANK_ATTACH, inside dl_iterate_phdr where an object is named.
// Fails:   more than FLK_PROVIDERS_MAX: see says FLK_PROVIDER_NO_ROOM.
// Invariant: what a provider's table of exports holds is its own function or the stub for looked-up calls of it.
#ifndef FLK_PROVIDERS_H
#define FLK_PROVIDERS_H

#include "elf/patch.h"
#include "hooks/bodies.h"

#ifdef FLK_HAS_ELF
enum { FLK_PROVIDER_NONE = -1, FLK_PROVIDER_NO_ROOM = -2 };

// A round: begin, see every object in the order of loading for providers of
// malloc, then again for those that define operators new and delete only,
// end. The latter can be done without: their own malloc calls are seen.
void flk_providers_begin(void);
// The provider this object is; its functions are known from then on.
int flk_providers_see(const flk_elf *elf, bool of_malloc);
void flk_providers_end(void);
int flk_providers_of(const flk_elf *elf);
// Would a round see a provider in it? In any thread.
bool flk_providers_may_be(const flk_elf *elf);
uint32_t flk_providers_count(void);

// Whose function is it? FLK_PROVIDER_NONE: nobody's.
int flk_providers_owner(flk_function function, uintptr_t address);
// What dlsym says of a function: its address (0: not found) while no lock is
// held, so that unbound slots get what the loader would give them.
void flk_providers_looked_up(flk_function function, uintptr_t address);
// Whom the loader binds this function to: by look-up, else the first loaded.
int flk_providers_default(flk_function function);
// An address that stands for a function in a program that is not
// position-independent: calls to it go through the program's own slot.
bool flk_providers_is_canonical(flk_function function, uintptr_t address);

// Its exports lead to stubs, or to its own functions again.
void flk_providers_patch(flk_patcher *patcher, int provider, bool is_hooked,
                         bool with_mappings);
// The canonical addresses of the program, the object that comes first.
void flk_providers_patch_program(flk_patcher *patcher, bool is_hooked,
                                 bool with_mappings);
#endif
#endif
