// unwind_gcc.h - libgcc's unwinder, for what elf/cfi.h does not understand.  SPDX-License-Identifier: MIT
// Cost:    about 100 ns a frame; it may take the loader's lock (glibc before 2.35).
// Callers: any thread, no lock held.
// Source:  Itanium C++ ABI, Exception Handling, 1.6.
#ifndef FLK_UNWIND_GCC_H
#define FLK_UNWIND_GCC_H

#include <stdbool.h>
#include <stdint.h>

// Told each address inside the instruction that is being run, innermost
// first, this function's caller among them; false: that is enough.
typedef bool (*flk_unwind_visitor)(uintptr_t address, void *context);
void flk_unwind_gcc(flk_unwind_visitor visit, void *context);
// It may have to make something the first time.
void flk_unwind_gcc_warm_up(void);

#endif
