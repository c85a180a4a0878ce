// flk_choice.h - which loaded objects are asked for, by patterns.            SPDX-License-Identifier: MIT
// Keeps:   a copy of the patterns: `*` any text, `?` any character, matched with the path of an object and with its
//          last part.
// Cost:    O(patterns x length) an object. No lock, no allocation.
// Callers: set: under FLK_RANK_ATTACH. The others: any thread.
// Fails:   longer than FLK_PATTERNS_BYTES_MAX in all: set says false and nothing changes.
#ifndef FLK_CHOICE_H
#define FLK_CHOICE_H

#include <stdbool.h>
#include <stddef.h>

// `include_count` 0: every object that is not excluded.
bool flk_choice_set(const char *const *include, size_t include_count,
                    const char *const *exclude, size_t exclude_count);
// Named by a pattern, and not excluded.
bool flk_choice_names(const char *path);
// Asked for: named, or everything is and it is not excluded.
bool flk_choice_has(const char *path);

#endif
