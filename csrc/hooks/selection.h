// selection.h - which loaded objects are traced, by patterns.               SPDX-License-Identifier: MIT
// Keeps:   a copy of the rules. "+PATTERN" includes, "-PATTERN" excludes, "~PATTERN" excludes by default, and "|"
//          begins the next request: each attachment makes one. A request without "+" includes all objects. In a pattern
//          `*` matches any text and `?` any character; it is compared with the path of an object and with the last
//          part of the path.
// Cost:    O(rules x length) an object. No lock, no allocation.
// Callers: set: under FLK_RANK_ATTACH. The others: any thread.
// Fails:   longer than FLK_PATTERNS_BYTES_MAX in all: set returns false and changes nothing.
#ifndef FLK_SELECTION_H
#define FLK_SELECTION_H

#include <stdbool.h>
#include <stddef.h>

// No rule: one request, for all objects.
bool flk_selection_set(const char *const *rules, size_t count);
// Whether a pattern of some request includes it that the same request does not
// exclude.
bool flk_selection_names(const char *path);
// Remembers which patterns to include match the path of a loaded object, until
// the next set. Under FLK_RANK_ATTACH, and so is flk_selection_has_met.
void flk_selection_meet(const char *path);
// Whether a pattern to include has matched an object since it was set.
bool flk_selection_has_met(const char *pattern);
// Whether it is traced: as flk_selection_names, or some request is for all
// objects and does not exclude it.
bool flk_selection_has(const char *path);
// As flk_selection_has, without the excludes by default.
bool flk_selection_may_have(const char *path);
// Whether each request excludes it with "-".
bool flk_selection_bars(const char *path);

#endif
