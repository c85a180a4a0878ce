// loader.h - questions to the dynamic loader about names.                SPDX-License-Identifier: MIT
// Keeps:   the path of the program.
// Cost:    for each name a look-up through all objects.
// Callers: any thread that holds no lock of the tracker, because dlsym takes the lock that constructors run under, and
//          a constructor may wait for one of ours. Exceptions: read_program, program, base.
// Fails:   what is not found is NULL or 0; the thread's dlerror() text is dropped.
#ifndef FLK_LOADER_H
#define FLK_LOADER_H

#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include "hooks/functions.h"

// Why the functions of this process cannot be hooked; NULL: they can be.
const char *flk_loader_reason_against(void);
// What dlsym(RTLD_DEFAULT) returns for each function: FLK_FN_COUNT addresses.
void flk_loader_look_up(uintptr_t *addresses);
// The object that this address lies in is never unloaded from now on.
void flk_loader_keep(uintptr_t address);
// Under FLK_RANK_ATTACH: reads the path of the program, which the loader
// lists without a name.
void flk_loader_read_program(void);
const char *flk_loader_program(void);
// Where the dynamic loader itself is loaded.
uintptr_t flk_loader_base(void);
#endif
#endif
