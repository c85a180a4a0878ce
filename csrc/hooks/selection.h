// selection.h - which loaded objects are asked for, by patterns.            SPDX-License-Identifier: MIT
// Keeps:   a copy of the rules. A rule is "+" and a pattern to include, "-" and one to exclude, or "|", which begins
//          the wishes of somebody else. A wish without "+" is for all objects. In patterns `*` is any text, `?` any
//          character; they are matched with the path of an object and with its last part.
// Cost:    O(rules x length) an object. No lock, no allocation.
// Callers: set: under FLK_RANK_ATTACH. The others: any thread.
// Fails:   longer than FLK_PATTERNS_BYTES_MAX in all: set says false and nothing changes.
#ifndef FLK_SELECTION_H
#define FLK_SELECTION_H

#include <stdbool.h>
#include <stddef.h>

// No rule: one wish, for all objects.
bool flk_selection_set(const char *const *rules, size_t count);
// Somebody's patterns include it, and his own do not exclude it.
bool flk_selection_names(const char *path);
// Remembers which patterns to include match the path of a loaded object, until
// the next set. Under FLK_RANK_ATTACH, as is the question.
void flk_selection_meet(const char *path);
bool flk_selection_has_met(const char *pattern);
// Asked for: so, or somebody wishes for all and does not exclude it.
bool flk_selection_has(const char *path);

#endif
