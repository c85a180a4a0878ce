// late_objects.h - objects that were loaded after the last pass.         SPDX-License-Identifier: MIT
// Keeps:   the loader's count of loaded objects at the last pass; where objects begin that need no pass.
// Cost:    find: a search of the loader's table and a match of the patterns. notice: some loads. The first allocation
//          of a late object that defines an allocator costs a pass, because its exports are not hooked yet.
// Callers: start: any thread, with no lock held. seen: under FLK_RANK_ATTACH. After start, hooks/callers.h calls find
//          and notice in any thread.
// Fails:   without _dl_find_object (glibc 2.35) a late object is unknown until the next pass.
#ifndef FLK_LATE_OBJECTS_H
#define FLK_LATE_OBJECTS_H

#include "base/platform.h"

#ifdef FLK_HAS_ELF
// `pass` makes a pass, unless it would have to wait for a lock; true: done.
void flk_late_objects_start(bool (*pass)(void));
// A pass begins: it will see every object that is loaded now.
void flk_late_objects_seen(void);
#endif
#endif
