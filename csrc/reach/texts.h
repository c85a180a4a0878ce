// texts.h - words that are the end of a C string and what lies behind it.             SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    reads the text backwards from the word, as far as it goes.
// Callers: the search for pointers, for a word that may be an address.
// Fails:   never; false if it is not sure.
// Invariant: a word is taken for the end of a text only if the text fills its block from the start. A text in the middle
//            of a block may be old itself, as in a table that does not clear free places.
#ifndef FLK_TEXTS_H
#define FLK_TEXTS_H

#include <stdbool.h>
#include <stdint.h>

// Whether this word, which may be an address, has the end of a C string that
// fills its block from the start, 8 bytes at least. `first` is the start of the
// region. Behind the end is what an earlier use of the memory left, such as the
// upper bytes of a pointer. (A lowest byte of 0 is no sign: one pointer in
// sixteen has it.)
bool flk_texts_end(const char *first, const char *word, uintptr_t address);

#endif
