// cfi.h - how a function's caller is found: reads .eh_frame for one address.  SPDX-License-Identifier: MIT
// Keeps:   nothing: pure over the memory of one loaded object.
// Cost:    a binary search and O(instructions of the function's table): about a microsecond. The caller caches.
// Callers: any thread; the object stays loaded meanwhile (its code is on the stack). No lock, no allocation.
// Fails:   what is not understood is said so (false), and nothing is read outside of the object's range. Understood:
//          frames found from the stack or frame pointer with the return address and the frame pointer in memory,
//          plain, realigned (DRAP) and of signal handlers; not: other registers, longer expressions, DWARF-64.
// Source:  DWARF 5, 6.4; LSB Core, "Exception Frames" (.eh_frame, .eh_frame_hdr); psABI of each machine.
#ifndef FLK_CFI_H
#define FLK_CFI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
// What a place in memory, or a value, is counted from.
typedef enum flk_cfi_from {
    FLK_CFI_SAME,  // the value did not change (frame pointer only)
    FLK_CFI_SP,
    FLK_CFI_FP,
    FLK_CFI_CFA,  // the stack pointer before the call
} flk_cfi_from;

enum {
    FLK_CFI_END = 1,     // nobody called it: a thread's first function
    FLK_CFI_SIGNAL = 2,  // its "caller" was interrupted, it made no call
    FLK_CFI_LOADED = 4,  // the CFA is the word at the place given
    FLK_CFI_SIGNED = 8,  // AArch64: the return address is signed
};

typedef struct flk_cfi_rule {
    int32_t cfa_offset, return_offset, fp_offset;  // bytes
    uint8_t cfa_from;                              // SP, FP
    uint8_t return_from;  // SP, FP, CFA: where the return address stands
    uint8_t fp_from;      // where the caller's frame pointer stands, or SAME
    uint8_t flags;
} flk_cfi_rule;

// `header` is the object's .eh_frame_hdr, [begin, end) its range. `address`
// is inside the instruction that is being run (for a return address: one
// less).
bool flk_cfi_find(uintptr_t header, uintptr_t begin, uintptr_t end,
                  uintptr_t address, flk_cfi_rule *out);
// Bytes of the header with its table, 0 if not understood.
uint64_t flk_cfi_header_bytes(uintptr_t header, uintptr_t end);
#endif
#endif
