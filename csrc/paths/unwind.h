// unwind.h - the native frames of this thread, up to the Python runtime. SPDX-License-Identifier: MIT
// Keeps:   for each thread: the unwind rule of each address found on a stack, and a cache of the stacks found
//          (paths/call_tree_cache.h). Both are cleared when an object was loaded since.
// Cost:    a cached stack: 3 ns a frame. Another stack: 10 ns a frame and the tree of paths. An address without a
//          rule: a microsecond and two locks. FLK_NATIVE_STACK_BYTES of stack for the latter two.
// Callers: any thread, inside its guard, with no lock held. Takes no lock of the loader with glibc 2.35 or later.
// Fails:   frames that flk_cfi does not understand are unwound by libgcc each time (100 ns a frame). Without memory:
//          FLK_UNWIND_NO_MEMORY, and the event is dropped.
// Invariant: rules are applied to the live stack each time; addresses read from an earlier stack are not reused. The
//            rule of an address depends only on the object that contains it. Why stack slots are not remembered:
//            csrc/README.md.
#ifndef FLK_UNWIND_H
#define FLK_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "elf/cfi.h"

// Receives an address inside the executing instruction of a frame.
typedef bool (*flk_unwind_visitor)(uintptr_t address, void *context);
typedef struct flk_native flk_native;      // the state of one thread
void flk_unwind_free(flk_native *native);  // NULL is ignored
#define FLK_UNWIND_NO_MEMORY SIZE_MAX
// Only libgcc could unwind the stack, and too few bytes of it are left.
#define FLK_UNWIND_NO_STACK (SIZE_MAX - 1)

// Prepares for native frames, and again after objects were loaded. Outside
// events.
void flk_unwind_start(void);

#ifdef FLK_HAS_ELF
// A position in the execution of a thread: the address of the next instruction,
// and two registers there.
typedef struct flk_registers {
    uintptr_t pc, sp, fp;
} flk_registers;

// Inlined into its caller, whose frame is the innermost one of the walk. The
// caller must not return before the walk ends.
static FLK_HOT flk_registers flk_unwind_here(void) {
    flk_registers here;
#if defined(__x86_64__)
    // Registers are named, because the compiler could choose rbp for one.
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

// A request: the position to begin at, the path to extend, and a limit.
typedef struct flk_wanted {
    flk_registers at;
    uint32_t base;   // the path of Python frames
    uint32_t depth;  // the largest number of native frames
} flk_wanted;

flk_native *flk_unwind_new(void);  // NULL without memory
// The path in the cache for the present stack; FLK_PATH_NONE if there is none.
uint32_t flk_unwind_recall(flk_native *native, const flk_wanted *wanted);
// Fills in the sites of at most `depth` frames, innermost first, without those
// of this module, and returns how many, or one of the values above. The steps of
// the walk are kept for flk_unwind_remember until the next call.
size_t flk_unwind_walk(flk_native *native, const flk_wanted *wanted,
                       uint32_t *sites);
// Enters the path of the last walk into the cache.
void flk_unwind_remember(flk_native *native, const flk_wanted *wanted,
                         uint32_t path);
// What `judge` says of the innermost frame of which it does not say 0, frames
// of this module included; 0 if there is none, or if too little stack is left
// to learn a rule. The judgement of an address is kept for calls with the same
// stamp (not 0).
typedef uint8_t (*flk_unwind_judge)(uintptr_t address);
uint8_t flk_unwind_find(flk_native *native, const flk_registers *from,
                        uint32_t stamp, flk_unwind_judge judge);
// How often libgcc was used, by all threads.
uint64_t flk_unwind_gcc_count(void);
bool flk_unwind_check(const flk_native *native);
#endif

// --- libgcc's unwinder, for frames that elf/cfi.h does not understand -----
// About 100 ns a frame. With glibc before 2.35 it takes the loader's lock. Any
// thread, with no lock held. Source: Itanium C++ ABI, Exception Handling, 1.6.
// Innermost first, beginning in flk_unwind_gcc; false ends the walk.
void flk_unwind_gcc(flk_unwind_visitor visit, void *context);
// The first use of libgcc's unwinder may allocate; this is one outside events.
void flk_unwind_gcc_warm_up(void);

#endif
