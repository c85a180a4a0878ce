// selection.h - which loaded objects are traced, by rules.                  SPDX-License-Identifier: MIT
// Keeps:   a copy of the rules. Each is a text, of a mark and a pattern:
//            +GLOB   =NAME   #FILE    include objects
//            -GLOB   !NAME   %FILE    exclude objects
//            ~GLOB                    excludes by default
//            |                        begins the next request: each attachment makes one
//          In a glob `*` matches any text and `?` any character; it is compared with the path of an object and with the
//          last part of the path. A name is compared as hooks/library_names.h says. A file is "DEVICE:INODE" in
//          hexadecimal, so that links and other paths to it count. A request without a rule that includes is for all
//          objects.
// Cost:    O(rules x length) an object, and a system call if a rule has a file. No lock, no allocation; errno is kept.
// Callers: set, meet, has_met: under FLK_RANK_ATTACH. The others: any thread.
// Fails:   longer than FLK_PATTERNS_BYTES_MAX in all: set returns false and changes nothing.
#ifndef FLK_SELECTION_H
#define FLK_SELECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// An object to compare with rules. `path` is as the loader has it. `absolute` is
// the same, or the absolute path without links if `path` is relative.
typedef struct flk_selection_object {
    const char *path, *absolute;
    uint64_t device, inode;  // of the file
    enum { FLK_FILE_UNREAD, FLK_FILE_READ, FLK_FILE_NONE } file;
} flk_selection_object;

static inline flk_selection_object flk_selection_object_at(const char *path) {
    return (flk_selection_object){.path = path, .absolute = path};
}

// No rule: one request, for all objects.
bool flk_selection_set(const char *const *rules, size_t count);
// Whether one rule matches an object, whether it includes or excludes.
bool flk_selection_fits(const char *rule, flk_selection_object *object);
// Whether a rule of some request includes it that the same request does not
// exclude.
bool flk_selection_names(flk_selection_object *object);
// Whether it is traced: as flk_selection_names, or some request is for all
// objects and does not exclude it.
bool flk_selection_has(flk_selection_object *object);
// Remembers which rules to include match a loaded object, until the next set.
void flk_selection_meet(flk_selection_object *object);
// Whether a rule to include has matched an object since it was set.
bool flk_selection_has_met(const char *rule);
// As flk_selection_has, without the excludes by default.
bool flk_selection_may_have(flk_selection_object *object);
// Whether each request excludes it, not only by default.
bool flk_selection_bars(flk_selection_object *object);

#endif
