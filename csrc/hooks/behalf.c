// behalf.c - by return address, and by the stack. Contract: hooks/behalf.h.   SPDX-License-Identifier: MIT
#include "hooks/behalf.h"

#ifdef FLK_HAS_ELF
#include "elf/call.h"
#include "elf/loaded.h"
#include "hooks/callers.h"
#include "hooks/report.h"
#include "paths/unwind.h"

static flk_caller find(uintptr_t address) {
    flk_caller found = flk_callers_listed(address);
    return FLK_LIKELY(found != FLK_CALLER_UNKNOWN) ? found
                                                   : flk_callers_find(address);
}

// --- C++ runtimes ----------------------------------------------------------
static uint8_t judge_frame(uintptr_t address) {
    flk_caller found = find(address);
    return found == FLK_CALLER_PASSED ? 0 : (uint8_t)(found + 1);
}

// The innermost caller that is not a part of what calls it. Not inlined: the
// walk begins with the frame of this function.
static FLK_NOINLINE flk_caller find_on_stack(void) {
    uint8_t judged = 0;
    flk_registers here = flk_unwind_here();
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return FLK_CALLER_UNKNOWN;
    if (!thread->native)
        thread->native = flk_unwind_new();
    if (thread->native)
        judged = flk_unwind_find(thread->native, &here, flk_callers_version(),
                                 judge_frame);
    flk_thread_leave(thread);
    return judged ? (flk_caller)(judged - 1) : FLK_CALLER_UNKNOWN;
}

// A return address in an untraced object that is not linked to a C++ runtime
// stands for a tail call in between (`void f() { stream.open("x"); }`). It is
// taken for one of a traced object, if there is any that is linked to one.
static bool is_runtime_recorded(flk_caller found) {
    switch (found) {
    case FLK_CALLER_TRACED:
        return true;
    case FLK_CALLER_UNTRACED:
    case FLK_CALLER_LOOKS_UP:
    case FLK_CALLER_LOOKS_UP_OF_NAMED:
        return flk_callers_have_traced_cxx();
    case FLK_CALLER_UNKNOWN:
        flk_report_count(FLK_HOOK_UNKNOWN_CALLERS);
        return false;
    default:
        return false;
    }
}

// Without a traced object that is linked to a runtime there is nothing to find,
// unless the runtime itself, or the C library, is traced.
//
// This module is a part of what calls it, so what the demangler allocates for
// it would be recorded; but this module's own free is not seen.
static bool is_call_of_runtime_recorded(const void *caller) {
    if (flk_platform_thread_marks()->is_demangling)
        return false;
    flk_caller found = find((uintptr_t)caller);
    if (found != FLK_CALLER_PASSED)
        return is_runtime_recorded(found);
    return flk_callers_have_traced_cxx() &&
           is_runtime_recorded(find_on_stack());
}

// --- looked-up functions ---------------------------------------------------
// What the slot of the call instruction holds; 0: the call goes through none.
static uintptr_t own_slot_of(const void *caller) {
    flk_loaded object;
    flk_elf elf;
    if (!flk_loaded_at((uintptr_t)caller, &object) ||
        !flk_loaded_open(&object, &elf))
        return 0;
    const uintptr_t *slot = flk_call_slot(&elf, (uintptr_t)caller);
    return slot ? __atomic_load_n(slot, __ATOMIC_RELAXED) : 0;
}

// Whether the call instruction goes through the caller's own slot. A pass has
// just given that slot the original function, or a stub, which is in this
// module.
static bool is_by_own_slot(uint32_t stub, const void *caller) {
    uintptr_t now = own_slot_of(caller);
    return now && (now == flk_stub_table_original(stub) ||
                   flk_callers_listed(now) == FLK_CALLER_PASSED);
}

// Whether a module of the interpreter takes the interpreter's memory: a pass
// has just given its slot the original function.
static bool is_of_interpreter(uint32_t stub, const void *caller) {
    return flk_functions_is_of_python(flk_stub_table_function(stub)) &&
           own_slot_of(caller) == flk_stub_table_original(stub);
}

static bool is_pointer_recorded(flk_caller found, uint32_t stub) {
    switch (found) {
    case FLK_CALLER_TRACED:
    case FLK_CALLER_LOOKS_UP:
        return true;
    case FLK_CALLER_LOOKS_UP_OF_NAMED:
        return FLK_STUB_GET(stub, flags) & FLK_PROVIDER_IS_NAMED;
    case FLK_CALLER_PASSED:  // the C library was given the pointer
        return find_on_stack() == FLK_CALLER_TRACED;
    case FLK_CALLER_UNKNOWN:
        flk_report_count(FLK_HOOK_UNKNOWN_CALLERS);
        return false;
    default:
        return false;
    }
}

// The first call after an object was loaded may be a tail call in it, or a call
// of another late object by its own slot.
static bool is_late_recorded(uint32_t stub, const void *caller,
                             flk_caller found, flk_late late) {
    FLK_ASSERT(late != FLK_LATE_NO);
    if (is_by_own_slot(stub, caller))
        return found == FLK_CALLER_PASSED &&
               is_call_of_runtime_recorded(caller);
    return late == FLK_LATE_TRACED || is_pointer_recorded(found, stub);
}

static bool is_looked_up_recorded(uint32_t stub, const void *caller) {
    flk_late late = flk_callers_notice(flk_stub_table_function(stub));
    flk_caller found = find((uintptr_t)caller);
    if (FLK_UNLIKELY(late != FLK_LATE_NO))
        return found == FLK_CALLER_TRACED
                   ? !is_of_interpreter(stub, caller)
                   : is_late_recorded(stub, caller, found, late);
    return is_pointer_recorded(found, stub);
}

FLK_NOINLINE bool flk_behalf_is_recorded(uint32_t stub, const void *caller) {
    FLK_ASSERT(caller != NULL);
    switch (flk_stub_table_via(stub)) {
    case FLK_VIA_TRACED:
        return true;
    case FLK_VIA_EXPORT:
        return is_looked_up_recorded(stub, caller);
    case FLK_VIA_RUNTIME:
        return is_call_of_runtime_recorded(caller);
    default:
        return false;
    }
}

// --- inside an allocating function -----------------------------------------
// From the provider itself, from a runtime, or from this module after a tail
// call. Other callers are new_handlers and signal handlers.
FLK_NOINLINE bool flk_behalf_is_inner(const void *caller) {
    FLK_ASSERT(caller != NULL);
    return flk_stub_table_is_in_provider((uintptr_t)caller, 0) ||
           flk_callers_listed((uintptr_t)caller) == FLK_CALLER_PASSED;
}
#endif
