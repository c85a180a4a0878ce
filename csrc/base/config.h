// config.h - every limit of the core, with its unit and its reason.      SPDX-License-Identifier: MIT
// A limit that is met never fails the host: the event is counted (dropped) and the program goes on.
#ifndef FLK_CONFIG_H
#define FLK_CONFIG_H

#include <stdint.h>

// Frames of one call path, after which the outer ones are cut off. A raw
// frame is 16 bytes and a path is read into the stack of the caller.
#define FLK_PATH_FRAMES_MAX 64
// Frames of this package that may stand between the user's and the walker.
#define FLK_PATH_OWN_FRAMES_MAX 8
// Frames recorded of a free: they are shown only with a misuse, and reports
// show 8. Each tracked free pays for them (a third of P2 with 16).
#define FLK_FREE_DEPTH_MAX 8
// Frames recorded unless the user says otherwise (design.md section 5).
#define FLK_STACK_DEPTH_DEFAULT 16

// Shards of the registry: enough that two threads rarely meet (1 in 1024)
// and that regrowing the table of one shard stays far below 1 ms; 64 bytes
// each. A power of two.
#define FLK_SHARDS 1024
// Regions one shard may hold, so that the longest insert is bounded: it moves
// at most this many 16-byte entries. 1024 shards of them are 6.7e7 regions.
#define FLK_SHARD_REGIONS_MAX 65536
// Granules of a region; an index of one is a byte.
#define FLK_REGION_GRANULES 256
// Largest recorded size, in bytes: 40 bits.
#define FLK_SIZE_MAX ((UINT64_C(1) << 40) - 1)

// Distinct (name, kind, release); an id is 16 bits, 0 means "none".
#define FLK_TYPES_MAX 65535
// Bytes of one type name, its end included; longer ones are cut.
#define FLK_TYPE_NAME_MAX 256
// Scopes that are open, or ended with live blocks; an id is 24 bits of a
// record. Past it a scope's blocks go to its parent.
#define FLK_SCOPES_MAX (1u << 20)
// Threads told apart by number; later ones share the number 0.
#define FLK_THREADS_MAX 65535
// Distinct code objects and distinct (code, offset) sites.
#define FLK_CODES_MAX (1u << 22)
#define FLK_SITES_MAX (1u << 24)
// Native frames of one call path, and frames that may be walked through for
// them: our own, and those of the interrupted.
#define FLK_NATIVE_FRAMES_MAX 64
#define FLK_NATIVE_STEPS_MAX 96
// Frames of native stacks, and addresses of code, each thread remembers;
// powers of two. 40 and 32 bytes each, mapped as used.
#define FLK_NATIVE_NODES 4096
#define FLK_NATIVE_RULES 1024
// Objects met on a stack: each library, once for each place it was loaded at.
#define FLK_MODULES_MAX 65536
// Nodes of the tree of call paths; an id is 32 bits of a record.
#define FLK_PATHS_MAX (1u << 28)
// Shards of the index of that tree: bounds how long one regrowth takes.
#define FLK_PATH_SHARDS 64
// Marks one remembered path may depend on: its frames, this package's own and
// shims between them; a path with more is not remembered.
#define FLK_PATH_MARKS_MAX 96
// Call paths each thread remembers by their marks; a power of two.
#define FLK_PATH_MEMO_WAYS 64

// Recent frees: stripes (threads are spread over them), entries kept in each
// as evidence, and how many of those are held back from the C free.
#define FLK_RECENT_STRIPES 16
#define FLK_RECENT_ENTRIES 1024
#define FLK_QUARANTINE_BLOCKS_DEFAULT 64
#define FLK_QUARANTINE_BLOCKS_MAX FLK_RECENT_ENTRIES
#define FLK_QUARANTINE_BYTES_DEFAULT (UINT64_C(1) << 20)
// Blocks that one free can push out of the quarantine.
#define FLK_QUARANTINE_LEAVING_MAX 8
// Zeroed blocks up to here are malloc and memset, larger ones calloc, which
// need not touch fresh pages: what glibc's caches of threads hold.
#define FLK_SMALL_BYTES 1024
// Bytes of guard before and behind a block, when asked for.
#define FLK_GUARD_BYTES_MAX 4096

// A tick of the clock inside a sequence number, as a power of two in
// nanoseconds: 2^22 ns = 4.2 ms, so that a timestamp is good to 10 ms.
#define FLK_TICK_SHIFT 22
// Sequence numbers a tick can hold before they run ahead of the clock:
// 2^20 events in 4.2 ms is 2.5e8 a second. 56 bits last nine years.
#include "base/values.h"
_Static_assert(FLK_TICK_NS == 1 << FLK_TICK_SHIFT, "one tick");
// Sequence numbers a thread takes at once. A mark wastes the rest of each
// open block: with 64, 16,384 marks a tick before numbers run ahead of the
// clock (with 1,024 a loop of marks made ages wrong); the counter they all
// share is still touched only each 64 events.
#define FLK_SEQUENCE_BLOCK 64

// Memory of the core: a slab serves chunks of one size; a span is what is
// mapped at once and grows with use between these bounds. Powers of two.
#define FLK_SLAB_BYTES 16384
#define FLK_SPAN_BYTES_MIN (UINT64_C(1) << 18)
#define FLK_SPAN_BYTES_MAX (UINT64_C(1) << 21)

// Loaded objects whose calls can be told apart; 32 bytes each, touched only
// as far as used. Processes with a thousand libraries are known.
#define FLK_OBJECTS_MAX 2048
// Bytes of all patterns that say which objects are asked for.
#define FLK_PATTERNS_BYTES_MAX 65536
// Passes over all slots until one changes nothing; each is a race won by a
// thread that binds a slot at that moment.
#define FLK_PATCH_PASSES_MAX 16
// Slots not bound when patched, whose old value is kept: some 10 a library.
#define FLK_UNBOUND_MAX 4096
// Hooked slots whose changes by others are noticed: 24 bytes each, touched only
// as far as used. Some 20 a library.
#define FLK_WATCHED_SLOTS_MAX 65536
// Events put off while a thread forks: what other fork handlers allocate.
#define FLK_LATE_EVENTS_MAX 256
// Pages of a munmap that are looked at one by one for records that begin in
// its middle: 256 MiB of 4 KiB pages.
#define FLK_UNMAP_PAGES_MAX 65536

// Trackers of Python objects at once, classes of each, and what waits to be
// told of their objects: 16 bytes each, mapped as used.
#define FLK_TRACKERS_MAX 16
#define FLK_CLASSES_MAX 256
#define FLK_OBJECT_EVENTS_MAX (1u << 20)
// Types implemented in C whose deallocator is wrapped (python/type_slots.c).
#define FLK_WRAPPED_TYPES_MAX 64
// Events of native blocks that wait for their observers: 56 bytes each.
#define FLK_OBSERVED_MAX (1u << 20)

_Static_assert((FLK_SHARDS & (FLK_SHARDS - 1)) == 0, "a power of two");
_Static_assert((FLK_PATH_SHARDS & (FLK_PATH_SHARDS - 1)) == 0,
               "a power of two");
_Static_assert((FLK_PATH_MEMO_WAYS & (FLK_PATH_MEMO_WAYS - 1)) == 0,
               "a power of two");
_Static_assert(FLK_REGION_GRANULES == 256, "a granule index is one byte");
_Static_assert(FLK_SCOPES_MAX <= 1u << 24, "24 bits of a record");
_Static_assert(FLK_TYPES_MAX <= 65535 && FLK_THREADS_MAX <= 65535,
               "16 bits of a record each");

#endif
