// unwind.h - the native return addresses of this thread, up to the Python runtime.  SPDX-License-Identifier: MIT
// Keeps:   for each thread: how the caller of each address met is found (a rule), and the stacks met (paths/call_tree_cache.h).
//          All is forgotten when an object was loaded since.
// Cost:    a stack met before 3 ns a frame; else 10 ns a frame and the tree of paths; an address not met before a
//          microsecond and two locks.
// Callers: any thread, inside the guard, no lock held. No loader's lock with glibc 2.35.
// Fails:   what flk_cfi does not understand is unwound by libgcc, each time anew (100 ns a frame). No memory:
//          FLK_UNWIND_NO_MEMORY, one drop.
// Invariant: rules are applied to the live stack, never what was found by them earlier; the rule of an address depends
//            on nothing but the object it lies in. Why no memo of places on the stack: csrc/README.md.
#ifndef FLK_UNWIND_H
#define FLK_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "elf/cfi.h"

typedef struct flk_native flk_native;      // what is kept for one thread
void flk_unwind_free(flk_native *native);  // NULL is ignored
#define FLK_UNWIND_NO_MEMORY SIZE_MAX

// Outside events: native frames are wanted from now on, or objects came.
void flk_unwind_start(void);

#ifdef FLK_HAS_ELF
// Where this thread is: the address of the next instruction, and two
// registers as they are there.
typedef struct flk_registers {
    uintptr_t pc, sp, fp;
} flk_registers;

// Part of the function that calls it, whose frame is the innermost one and
// must be there until the walk is done.
static FLK_HOT flk_registers flk_unwind_here(void) {
    flk_registers here;
#if defined(__x86_64__)
    // Named registers: else rbp could be one of them.
    __asm__ volatile("leaq 0(%%rip), %0\n\tmovq %%rsp, %1\n\tmovq %%rbp, %2"
                     : "=a"(here.pc), "=c"(here.sp), "=d"(here.fp));
#else
    register uintptr_t pc __asm__("x9"), sp __asm__("x10"), fp __asm__("x11");
    __asm__ volatile("adr %0, .\n\tmov %1, sp\n\tmov %2, x29"
                     : "=r"(pc), "=r"(sp), "=r"(fp));
    here = (flk_registers){pc, sp, fp};
#endif
    return here;
}

// What was found for this thread, above this path of Python frames.
typedef struct flk_wanted {
    flk_registers at;
    uint32_t base;   // a path
    uint32_t depth;  // frames
} flk_wanted;

flk_native *flk_unwind_new(void);  // NULL: no memory
// The path remembered for the stack that is there now; FLK_PATH_NONE.
uint32_t flk_unwind_recall(flk_native *native, const flk_wanted *wanted);
// Fills the sites of at most `depth` frames, innermost first, those of this
// module left out; returns how many. What is walked is kept until the next
// call for flk_unwind_remember.
size_t flk_unwind_walk(flk_native *native, const flk_wanted *wanted,
                       uint32_t *sites);
void flk_unwind_remember(flk_native *native, const flk_wanted *wanted,
                         uint32_t path);
// How often libgcc had to be asked, by all threads.
uint64_t flk_unwind_gcc_count(void);
bool flk_unwind_check(const flk_native *native);
#endif

// --- libgcc's unwinder, for what elf/cfi.h does not understand ------------
// About 100 ns a frame; it may take the loader's lock (glibc before 2.35).
// Any thread, no lock held. Source: Itanium C++ ABI, Exception Handling, 1.6.
// Told each address inside the instruction that is being run, innermost
// first, this function's caller among them; false: that is enough.
typedef bool (*flk_unwind_visitor)(uintptr_t address, void *context);
void flk_unwind_gcc(flk_unwind_visitor visit, void *context);
// It may have to make something the first time.
void flk_unwind_gcc_warm_up(void);

#endif
