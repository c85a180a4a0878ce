// flk_unbound.c - a small table. Contract: flk_unbound.h.                    SPDX-License-Identifier: MIT
#include "flk_unbound.h"

#include "flk_config.h"

static struct {
    uint32_t count;
    struct {
        const uintptr_t *word;
        uintptr_t value;
    } slots[FLK_UNBOUND_MAX];
} unbound;

uintptr_t flk_unbound_value(const uintptr_t *word) {
    for (uint32_t i = 0; i < unbound.count; i++)
        if (unbound.slots[i].word == word)
            return unbound.slots[i].value;
    return 0;
}

void flk_unbound_note(const uintptr_t *word, uintptr_t value) {
    if (unbound.count == FLK_UNBOUND_MAX || flk_unbound_value(word))
        return;
    unbound.slots[unbound.count].word = word;
    unbound.slots[unbound.count++].value = value;
}

void flk_unbound_clear(void) { unbound.count = 0; }
