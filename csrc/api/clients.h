// clients.h - what C code calls that includes ffi_leak_tracker.h.          SPDX-License-Identifier: MIT
// Keeps:   nothing. ffi_leak_tracker_api_1, the table of functions, is exported under that name, and the clients that
//          are loaded before this module get its address in their variable.
// Cost:    flk_clients_start: one look at each loaded object. An event: one of tracker/tracker_hot.h; with the tag of a
//          scope also the lock of the scopes.
// Callers: flk_clients_start: once, at the start. The functions of the table: any thread, at any point, without the
//          GIL. They keep errno.
// Fails:   an event inside the guard, in a fork, or without memory is counted in `dropped`.
// Invariant: arguments of clients are checked, not asserted; a tag is one that ffilt_scope_here returned.
#ifndef FLK_CLIENTS_H
#define FLK_CLIENTS_H

#define FFILT_OFF  // this module is no client of itself
#include <ffi_leak_tracker.h>

// Makes the table visible to objects that are loaded later, and gives its
// address to those that are loaded.
void flk_clients_start(void);

#endif
