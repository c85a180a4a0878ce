// flk_hookdrop.c - drops what the hooks have recorded. Contract: flk_attach.h.  SPDX-License-Identifier: MIT
#include <string.h>

#include "flk_attach.h"
#include "flk_hook.h"
#include "flk_names.h"
#include "flk_tracker.h"

#ifdef FLK_HAS_ELF
static bool is_of_hooks(uint16_t type) {
    return strcmp(flk_names_at(type)->kind, FLK_HOOK_KIND) == 0;
}

uint64_t flk_attach_drop(void) { return flk_tracker_drop(is_of_hooks); }
#else
uint64_t flk_attach_drop(void) { return 0; }
#endif
