// late_objects.h - is code that was loaded since the last round asked for?  SPDX-License-Identifier: MIT
// Keeps:   the address of _dl_find_object, where the C library has it (glibc 2.35 on): it takes no lock.
// Cost:    a search of the loader's table and a match of the patterns; notice: some loads.
//          The first allocation of a new provider costs a round: what it exports is not hooked yet.
// Callers: start: with no lock held. After it, hooks/callers.h asks here, in any thread.
// Fails:   without _dl_find_object late objects stay unknown until the next round.
// Source:  glibc manual, "Dynamic Linker Introspection": struct dl_find_object.
#ifndef FLK_LATE_OBJECTS_H
#define FLK_LATE_OBJECTS_H

#include "base/platform.h"

#ifdef FLK_HAS_ELF
// `do_round` takes no lock that is held; false: it did nothing.
void flk_late_objects_start(bool (*do_round)(void));
// A round begins: what is loaded by now will have been seen.
void flk_late_objects_seen(void);
// A looked-up function is called. If anything was loaded since, a round: a
// library that came has its slots looked up like everybody's, and a call at
// the end of a function of its would be taken for its caller's.
void flk_late_objects_notice(void);
#endif
#endif
