// cfi.h - reads .eh_frame: the rule that finds the caller of one address. SPDX-License-Identifier: MIT
// Keeps:   nothing; reads the memory of one loaded object.
// Cost:    a binary search and O(instructions of the function's table), about a microsecond. The caller caches rules.
// Callers: any thread. The object must stay loaded meanwhile, for example because its code is on the stack. No lock,
//          no allocation; 0.9 KiB of stack.
// Fails:   false for tables that are not understood. Nothing outside the object's range is read. Understood: frames
//          found from the stack pointer or the frame pointer, with the return address and the saved frame pointer in
//          memory; plain frames, realigned ones (DRAP) and those of signal handlers. Not understood: frames found
//          from other registers, longer expressions, DWARF-64.
// Source:  DWARF 5, 6.4; LSB Core, "Exception Frames" (.eh_frame, .eh_frame_hdr); psABI of each machine.
#ifndef FLK_CFI_H
#define FLK_CFI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
// The base of an offset.
typedef enum flk_cfi_from {
    FLK_CFI_SAME,  // unchanged by the function (frame pointer only)
    FLK_CFI_SP,
    FLK_CFI_FP,
    FLK_CFI_CFA,  // the canonical frame address: sp before the call
} flk_cfi_from;

enum {
    FLK_CFI_END = 1,     // the outermost function of a thread: no caller
    FLK_CFI_SIGNAL = 2,  // the "caller" was interrupted and made no call
    FLK_CFI_LOADED = 4,  // the CFA is the word stored at cfa_from + cfa_offset
    FLK_CFI_SIGNED = 8,  // AArch64: the return address is signed
};

typedef struct flk_cfi_rule {
    int32_t cfa_offset, return_offset, fp_offset;  // bytes
    uint8_t cfa_from;                              // SP or FP
    uint8_t return_from;  // SP, FP or CFA: base of the saved return address
    uint8_t fp_from;      // base of the saved frame pointer, or SAME
    uint8_t flags;
} flk_cfi_rule;

// `header` is the object's .eh_frame_hdr, [begin, end) its range. `address` must
// lie inside the instruction that is executing: subtract one from a return
// address.
bool flk_cfi_find(uintptr_t header, uintptr_t begin, uintptr_t end,
                  uintptr_t address, flk_cfi_rule *out);
// Bytes of the header and its table; 0 if they are not understood.
uint64_t flk_cfi_header_bytes(uintptr_t header, uintptr_t end);
#endif
#endif
