// providers.h - the loaded objects that define an allocator, and their functions.  SPDX-License-Identifier: MIT
// Keeps:   a place for each provider; its index is also the provider's number in hooks/stub_table.h, which holds the
//          addresses of its functions. A place is reused only after its object was unloaded.
// Cost:    O(symbols) a provider.
// Callers: under FLK_RANK_ATTACH, inside dl_iterate_phdr where an object is passed. may_be: any thread.
// Fails:   more than FLK_PROVIDERS_MAX: see returns FLK_PROVIDER_NO_ROOM.
// Invariant: each symbol of a hooked function in a provider's export table leads to the provider's own function or to
//            its EXPORT stub.
#ifndef FLK_PROVIDERS_H
#define FLK_PROVIDERS_H

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
#include "hooks/functions.h"

enum { FLK_PROVIDER_NONE = -1, FLK_PROVIDER_NO_ROOM = -2 };

// A pass: begin; see every object in load order with `of_malloc`, for
// providers of malloc; see every object again without, for objects that
// define operators new and delete only; end. Of the latter some may be left
// out: their blocks are recorded where they call malloc.
void flk_providers_begin(void);
// The provider that this object is. Reads its functions.
int flk_providers_see(const flk_elf *elf, bool of_malloc);
void flk_providers_end(void);
int flk_providers_of(const flk_elf *elf);
// Whether this object is the interpreter, which defines PyMem_RawMalloc. It is
// no provider, but has exports to patch.
bool flk_providers_is_python(const flk_elf *elf);
// Whether a pass would find a provider in it.
bool flk_providers_may_be(const flk_elf *elf);
uint32_t flk_providers_count(void);

// The provider whose function is at this address, or FLK_PROVIDER_NONE.
int flk_providers_owner(flk_function function, uintptr_t address);
// Enters what dlsym returns for a function (0: not found). It was asked
// before the lock was taken.
void flk_providers_set_looked_up(flk_function function, uintptr_t address);
// The provider that the loader binds an unbound slot of this function to: the
// one that dlsym names, else the first one loaded.
int flk_providers_default(flk_function function);
// The same for a slot with this name of the function. An allocator that stands on
// the C library's defines memalign and calls __libc_memalign.
int flk_providers_default_of(flk_function function, const char *name);
// Whether this is the function's canonical address: an entry of the linkage
// table of a program that is not position-independent. It jumps through the
// program's own slot.
// The canonical address; 0: there is none.
uintptr_t flk_providers_canonical(flk_function function);
bool flk_providers_is_canonical(flk_function function, uintptr_t address);

// The exports of a provider lead to stubs, or to its functions again.
void flk_providers_patch(flk_patcher *patcher, int provider, bool is_hooked,
                         bool with_mappings);
void flk_providers_patch_python(flk_patcher *patcher, bool is_hooked);
// The canonical addresses in the program, which is the first object.
void flk_providers_patch_program(flk_patcher *patcher, bool is_hooked,
                                 bool with_mappings);
#endif
#endif
