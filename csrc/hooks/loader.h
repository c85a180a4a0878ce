// loader.h - what is asked of the dynamic loader by name.                SPDX-License-Identifier: MIT
// Keeps:   the path of the program.
// Cost:    a look-up through all objects for each name.
// Callers: any thread, with no lock of ours held: constructors run under the loader's lock and may wait for ours.
// Fails:   what is not there is told as NULL or 0; the thread's dlerror() text is dropped.
#ifndef FLK_LOADER_H
#define FLK_LOADER_H

#include "hooks/bodies.h"

#ifdef FLK_HAS_ELF
// Why the functions of this process cannot be hooked; NULL: they can.
const char *flk_loader_reason_against(void);
// What each function is bound to from here: FLK_FN_COUNT addresses.
void flk_loader_look_up(uintptr_t *addresses);
// The object that holds the stubs stays from now on.
void flk_loader_keep_us(void);
// The path of the program, for objects without a name.
void flk_loader_read_program(void);
const char *flk_loader_program(void);
// The start of the dynamic loader itself.
uintptr_t flk_loader_base(void);
#endif
#endif
