// pause.c - the addresses of a thread without a record. Contract: hooks/pause.h.  SPDX-License-Identifier: MIT
#include "hooks/pause.h"

#ifdef FLK_HAS_ELF
#include <string.h>

// Written inside the guard only: a signal handler that interrupts this reads
// either no valid era, or entries of that era.
static void begin_era(flk_thread *thread, uint64_t era) {
    FLK_ASSERT(thread->inside && era != 0);
    thread->absent_era = 0;
    atomic_signal_fence(memory_order_seq_cst);
    memset(thread->absent, 0, sizeof thread->absent);
    atomic_signal_fence(memory_order_seq_cst);
    thread->absent_era = era;
}

void flk_pause_note(uintptr_t address) {
    FLK_ASSERT(address != 0);
    uint64_t epoch =
        atomic_load_explicit(&flk_stub_table_now.epoch, memory_order_acquire);
    flk_thread *thread =
        address >> FLK_ABSENT_EPOCH_SHIFT ? NULL : flk_thread_enter();
    if (!thread)
        return;
    if (FLK_UNLIKELY(thread->absent_era != flk_pause_era(epoch)))
        begin_era(thread, flk_pause_era(epoch));
    thread->absent[flk_pause_place(address)] = flk_pause_entry(address, epoch);
    flk_thread_leave(thread);
}
#endif
