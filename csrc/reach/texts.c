// texts.c - finds the start of a text from its end. Contract: reach/texts.h.          SPDX-License-Identifier: MIT
#include "reach/texts.h"

#include <stddef.h>
#include <string.h>

#include "base/platform.h"
#include "reach/heads.h"

static bool is_text(unsigned char byte) {
    return (byte >= ' ' && byte <= '~') || (byte >= '\t' && byte <= '\r');
}

// Whether memory is the start of a block that reaches beyond `to`: its region
// begins there, or a head of glibc's malloc is before it.
static bool begins_block(const char *first, const char *at, uintptr_t address,
                         const char *to) {
    enum { HEAD = FLK_HEADS_BYTES, FLAGS = 7 };
    if (at == first)
        return true;
    if (address % FLK_HEADS_ALIGNMENT != 0 ||
        at - first < (ptrdiff_t)sizeof(uintptr_t))
        return false;
    uint64_t size;
    memcpy(&size, at - sizeof size, sizeof size);
    size &= ~(uint64_t)FLAGS;
    return size % HEAD == 0 && size <= UINT32_MAX &&
           size > (uint64_t)(to - at) + HEAD;
}

bool flk_texts_end(const char *first, const char *word, uintptr_t address) {
    FLK_ASSERT(first && first <= word);
    const unsigned char *bytes = (const unsigned char *)word;
    const char *at = word;
    if (*bytes == 0)
        return false;
    while (at > first && is_text((unsigned char)at[-1]))
        at--;
    size_t before = (size_t)(word - at);
    if (before < sizeof(uintptr_t) ||
        !begins_block(first, at, address - before, word))
        return false;
    while (is_text(*bytes))  // not longer than the word: its highest byte is 0
        bytes++;
    return *bytes == 0;
}
