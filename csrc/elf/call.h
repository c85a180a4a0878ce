// call.h - the call instruction before a return address.                   SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    some comparisons.
// Callers: any thread. The object must stay loaded.
// Fails:   NULL if the instruction is of another kind, such as a call of a register. Always NULL on AArch64.
// Source:  Intel SDM volume 2 (CALL, JMP, ENDBR64), x86-64 psABI 5.2 (procedure linkage table).
#ifndef FLK_CALL_H
#define FLK_CALL_H

#include "elf/elf.h"

#ifdef FLK_HAS_ELF
// The slot through which the call goes that returns to this address of the
// object: `call *slot(%rip)`, or `call` of an entry of a linkage table. What
// the bytes are taken for may be wrong, so the word is only a candidate.
const uintptr_t *flk_call_slot(const flk_elf *elf, uintptr_t return_address);
#endif
#endif
