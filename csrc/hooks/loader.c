// loader.c - dlsym, dladdr, dlopen. Contract: hooks/loader.h.              SPDX-License-Identifier: MIT
#include "hooks/loader.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <errno.h>
#include <sys/auxv.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };
// Under FLK_RANK_ATTACH, so whole in the child of a fork.
static char program[PATH_BYTES];

const char *flk_loader_reason_against(void) {
    static const char *const runtimes[][2] = {
        {"__asan_init", "AddressSanitizer has its own allocator in place"},
        {"__tsan_init", "ThreadSanitizer has its own allocator in place"},
        {"__msan_init", "MemorySanitizer has its own allocator in place"},
        {"__hwasan_init", "HWASan has its own allocator in place"}};
    const char *reason = NULL;
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++)
        if (dlsym(RTLD_DEFAULT, runtimes[i][0]))
            reason = runtimes[i][1];
    dlerror();  // drops the text about what was not found
    return reason;
}

void flk_loader_look_up(uintptr_t *addresses) {
    FLK_ASSERT(addresses != NULL);
    for (int i = 0; i < FLK_FN_COUNT; i++)
        addresses[i] =
            (uintptr_t)dlsym(RTLD_DEFAULT, flk_functions_info[i].symbol);
    dlerror();
}

void flk_loader_keep(uintptr_t address) {
    Dl_info here;
    FLK_ASSERT(address != 0);
    if (dladdr((void *)address, &here) && here.dli_fname)
        dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    dlerror();  // the program is no library, and is never unloaded anyway
}

void flk_loader_read_program(void) {
    int saved = errno;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    FLK_ASSERT(length < PATH_BYTES);
    program[length > 0 ? length : 0] = '\0';
    errno = saved;
}

const char *flk_loader_program(void) {
    FLK_ASSERT(program[PATH_BYTES - 1] == '\0');
    return program;
}
uintptr_t flk_loader_base(void) { return getauxval(AT_BASE); }
#endif
