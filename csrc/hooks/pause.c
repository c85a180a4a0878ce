// pause.c - the addresses of a thread without a record. Contract: hooks/pause.h.  SPDX-License-Identifier: MIT
#include "hooks/pause.h"

#ifdef FLK_HAS_ELF
#include <string.h>

// Written inside the guard only: a signal handler that interrupts this reads
// either no valid epoch, or addresses of that epoch.
void flk_pause_note(uintptr_t address) {
    FLK_ASSERT(address != 0);
    uint64_t epoch =
        atomic_load_explicit(&flk_stub_table_now.epoch, memory_order_acquire);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    if (thread->absent_epoch != epoch) {
        thread->absent_epoch = FLK_ABSENT_NO_EPOCH;
        atomic_signal_fence(memory_order_seq_cst);
        memset(thread->absent, 0, sizeof thread->absent);
        atomic_signal_fence(memory_order_seq_cst);
        thread->absent_epoch = epoch;
    }
    thread->absent[flk_pause_place(address)] = address;
    flk_thread_leave(thread);
}
#endif
