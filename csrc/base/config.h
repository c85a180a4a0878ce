// config.h - every limit of the core, with its unit and its reason.      SPDX-License-Identifier: MIT
// When a limit is reached the host program goes on undisturbed: the event is counted as dropped.
#ifndef FLK_CONFIG_H
#define FLK_CONFIG_H

#include <stdint.h>

#include "base/values.h"

// --- call paths ---------------------------------------------------------
// The largest number of frames in a call path; outer frames beyond it are cut
// off. A raw frame takes 16 bytes.
#define FLK_PATH_FRAMES_MAX 64
// The largest number of frames of this package between the innermost frame
// and the first frame of the user.
#define FLK_PATH_OWN_FRAMES_MAX 8
// Frames recorded for a free. They are shown only in a misuse report, which
// prints 8, and each tracked free pays for them: 16 frames took a third of the
// time of a tracked pair.
#define FLK_FREE_DEPTH_MAX 8
// Frames recorded for an allocation by default.
#define FLK_STACK_DEPTH_DEFAULT 16
// Distinct code objects, and distinct (code, offset) places in them. Code
// objects that die and come back equal share an entry (paths/sites.h).
#define FLK_CODES_MAX (1u << 22)
#define FLK_SITES_MAX (1u << 24)
// The largest number of native frames in a call path, and of frames that a
// walk may pass to collect them. The walk also passes frames of this module
// and frames below a signal handler.
#define FLK_NATIVE_FRAMES_MAX 64
#define FLK_NATIVE_STEPS_MAX 96
// Entries of each thread's call tree cache, and of its table of unwind rules.
// Powers of two; 40 and 32 bytes an entry, in pages mapped when touched.
#define FLK_NATIVE_NODES 4096
#define FLK_NATIVE_RULES 1024
// Bytes that must be left on an alternate signal stack for a walk through Python
// frames, through native frames, and by libgcc's unwinder. With less, the path
// of the event is cut (paths/stack.h). Measured on x86-64 for a whole event:
// 1.1, 1.6 and 2.3 KiB; 0.4 to 0.6 KiB with a remembered path.
#define FLK_PYTHON_STACK_BYTES 1536
#define FLK_NATIVE_STACK_BYTES 2048
#define FLK_LIBGCC_STACK_BYTES 4096
// Modules: loaded objects whose code was found on a stack. An object that is
// loaded again at another address is another module.
#define FLK_MODULES_MAX 65536
// Nodes of the tree of call paths; a record has 32 bits for a node's id.
#define FLK_PATHS_MAX (1u << 28)
// Shards of the tree's index. More shards make one regrowth shorter.
#define FLK_PATH_SHARDS 64
// The largest number of marks that identify a remembered path: one for each
// of its frames, for this package's frames and for shims between them. A path
// with more marks is not remembered.
#define FLK_PATH_MARKS_MAX 96
// Entries in each of the two tables of remembered paths of a thread; a power
// of two.
#define FLK_PATH_MEMO_ENTRIES 64

// --- the registry -------------------------------------------------------
// Shards: enough that two threads rarely need the same one (1 in 1024), and
// that regrowing the table of one shard stays far below 1 ms. 64 bytes a
// shard; a power of two.
#define FLK_SHARDS 1024
// Slots of recent blocks, of 32 bytes, shared by all threads (registry/young.h).
// 12 bits of an address in units of 16 bytes choose one: 64 KiB of small blocks
// that lie side by side do not meet. A power of two.
#define FLK_YOUNG_SLOT_BITS 12
#define FLK_YOUNG_SLOTS (1 << FLK_YOUNG_SLOT_BITS)
// Threads that may own slots at the same time.
#define FLK_YOUNG_SEATS 62
// A free that finds a live block in its slot: so many later frees of the thread take
// no slot, and every second time that block, which may be old, moves to the registry.
#define FLK_YOUNG_FULL_SKIP 7
#define FLK_YOUNG_MOVE_EVERY 2
// A realloc of a block in a slot moves it to the registry, so it gains nothing there:
// so many later frees of the thread take no slot.
#define FLK_YOUNG_MOVED_SKIP 31
// Frees of a thread during which it takes no slots, after another thread freed a
// block of it: a fence and a walk over all slots (some microseconds) come once in
// as many events. It doubles if that happens again within a second.
#define FLK_YOUNG_ASIDE_MIN (1u << 14)
#define FLK_YOUNG_ASIDE_MAX (1u << 20)
#define FLK_YOUNG_ASIDE_AGAIN_NS UINT64_C(1000000000)
// After so many frees of a thread beside its slots they are judged: with fewer than
// so many frees from a slot to one beside it, the thread takes none, as above.
#define FLK_YOUNG_WINDOW 4096u
#define FLK_YOUNG_HITS_A_MISS 2u
// Frees that find the slot owned by another thread, until the slots without a
// live block are taken from their owners.
#define FLK_YOUNG_FOREIGN_MAX (1u << 13)
// Regions in one shard. This bounds the longest insert, which moves this many
// 16-byte entries; all shards together hold 6.7e7 regions.
#define FLK_SHARD_REGIONS_MAX 65536
// Granules of a region; the index of a granule is one byte.
#define FLK_REGION_GRANULES 256
// The largest size of a recorded block, in bytes: 40 bits.
#define FLK_SIZE_MAX ((UINT64_C(1) << 40) - 1)
// Distinct (type name, kind, release) triples. An id has 16 bits; 0 is "none".
#define FLK_TYPES_MAX 65535
// Bytes of one type name, with the terminating zero. Longer names are cut.
#define FLK_TYPE_NAME_MAX 256
// Scopes that are open, or that ended while blocks of theirs were live. A
// record has 24 bits for a scope. Beyond the limit the blocks of a new scope
// are recorded in its parent.
#define FLK_SCOPES_MAX (1u << 20)
// Thread numbers. A record has 16 bits for one. Threads beyond the limit have
// the number 0, "unknown", and are counted (flk_thread_unnumbered_count).
#define FLK_THREADS_MAX 65535

// --- freed blocks and guards --------------------------------------------
// Recent frees: the number of rings, the entries of each ring, and how many
// of the entries are held back from the C free. Threads are spread over the
// rings.
#define FLK_RECENT_STRIPES 16
#define FLK_RECENT_ENTRIES 1024
#define FLK_QUARANTINE_BLOCKS_DEFAULT 64
#define FLK_QUARANTINE_BLOCKS_MAX FLK_RECENT_ENTRIES
#define FLK_QUARANTINE_BYTES_DEFAULT (UINT64_C(1) << 20)
// Blocks that one free can push out of the quarantine.
#define FLK_QUARANTINE_LEAVING_MAX 8
// Frees that hooks remember, to tell a double free: 64 bytes each, a power of
// two. An older free of the same place is forgotten.
#define FLK_FREED_ENTRIES 2048
// Addresses that a thread remembers in a pause (hooks/pause.h), 8 bytes each.
#define FLK_ABSENT_PLACES 1024
// Blocks that are requested from the allocator to prove that an address is
// free, and their bytes in all. glibc caches 7 blocks of a size for a thread.
#define FLK_PROOF_BLOCKS_MAX 40
#define FLK_PROOF_BYTES_MAX (UINT64_C(1) << 26)
// Places in which answers are counted by address. After so many in vain in one
// place only one block is requested, but for each 64th time.
#define FLK_PROOF_PLACES 256
#define FLK_PROOF_IN_VAIN_MAX 8
#define FLK_PROOF_IN_VAIN_EACH 64
// Misuses that wait for a reader. The oldest goes.
#define FLK_MISUSES_MAX 1000
// Misuses of hooked blocks whose texts are written to stderr. Further ones are
// counted and queued only.
#define FLK_MISUSE_TEXTS_MAX 100
// Native frames of the path of a misuse of hooked blocks.
#define FLK_MISUSE_NATIVE_DEPTH 16
// Zeroed blocks up to this size are allocated by malloc and memset, larger
// ones by calloc, which does not touch fresh pages. This is the largest size
// that glibc's per-thread caches hold.
#define FLK_SMALL_BYTES 1024
// Guard bytes before and behind a block.
#define FLK_GUARD_BYTES_MAX 4096

// --- sequence numbers ---------------------------------------------------
// A clock tick inside a sequence number, as a power of two in nanoseconds:
// 2^22 ns = 4.2 ms, so a timestamp is accurate to 10 ms. A tick holds 2^20
// numbers, 2.5e8 events a second, before numbers run ahead of the clock. 56
// bits last nine years.
#define FLK_TICK_SHIFT 22
_Static_assert(FLK_TICK_NS == 1 << FLK_TICK_SHIFT, "one tick");
// Sequence numbers that a thread takes at once. A mark wastes the rest of each
// open block, so a block must be small: with 64 numbers, 16,384 marks fit into
// a tick. (With 1,024 numbers a loop of marks made ages wrong.) The shared
// counter is still written only once in 64 events.
#define FLK_SEQUENCE_BLOCK 64

// --- memory of the core -------------------------------------------------
// A slab holds chunks of one size. A span is one mapping; spans grow with use
// between these bounds. Powers of two.
#define FLK_SLAB_BYTES 16384
#define FLK_SPAN_BYTES_MIN (UINT64_C(1) << 18)
#define FLK_SPAN_BYTES_MAX (UINT64_C(1) << 21)
// Mappings of the core that a search for pointers leaves out: 8 bytes each, in
// pages touched when used. A registry of 1e7 blocks has some thousands.
#define FLK_OWN_MAPPINGS_MAX 65536

// --- hooks --------------------------------------------------------------
// Loaded objects whose calls can be told apart: 32 bytes each, in pages mapped
// when touched. Processes with a thousand libraries exist.
#define FLK_OBJECTS_MAX 2048
// Bytes of all patterns that select objects.
#define FLK_PATTERNS_BYTES_MAX 65536
// Bytes of the path of a loaded object, as PATH_MAX of Linux.
#define FLK_PATH_BYTES_MAX 4096
// Passes over all slots until a pass changes nothing. One more pass is needed
// for each slot that another thread binds at the same moment.
#define FLK_PATCH_PASSES_MAX 16
// Slots that were unbound when they were patched, whose old value is kept:
// about 10 a library.
#define FLK_UNBOUND_MAX 4096
// Hooked slots whose changes by others are noticed: 24 bytes each, touched only
// as far as used. Some 20 a library.
#define FLK_WATCHED_SLOTS_MAX 65536
// Letters of a wide format of scanf that are read for conversions with `m`; on
// the stack.
#define FLK_WIDE_FORMAT_MAX 512
// Ranges of writable data in which copied pointers are searched: 40 bytes each.
// Two for an object, mostly.
#define FLK_COPIES_RANGES_MAX 8192
// Events delayed while a thread forks: what other fork handlers allocate.
#define FLK_LATE_EVENTS_MAX 256
// Pages of one munmap that are searched, one by one, for records that begin
// inside the unmapped range: 256 MiB of 4 KiB pages.
#define FLK_UNMAP_PAGES_MAX 65536

// --- the search for pointers (reach/) ------------------------------------
// Threads whose stack pointer is noted: 88 bytes each. The whole stacks of
// further threads are searched.
#define FLK_STACKS_MAX 1024
// Named roots. What further ones hold is held by untracked memory.
#define FLK_HOLDERS_MAX 4096
// Pieces in which memory is searched: the pools of Python's allocator.
#define FLK_PIECE_BYTES 16384

// --- Python objects and observers ---------------------------------------
// Object trackers at one time, classes of each, and creations and ends that
// wait for delivery: 16 bytes each, in pages mapped when touched.
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
_Static_assert((FLK_PATH_MEMO_ENTRIES & (FLK_PATH_MEMO_ENTRIES - 1)) == 0,
               "a power of two");
_Static_assert(FLK_REGION_GRANULES == 256, "a granule index is one byte");
_Static_assert(FLK_SCOPES_MAX <= 1u << 20, "20 bits of a record");
_Static_assert(FLK_TYPES_MAX <= 65535 && FLK_THREADS_MAX <= 65535,
               "16 bits of a record each");

#endif
