// tell.h - writes a misuse to stderr at once.                               SPDX-License-Identifier: MIT
// Keeps:   a buffer, and how many texts were written.
// Cost:    one write(2), and the look-up of names. Callers: any thread, outside the guard and without a lock. Calls
//          nothing but what a signal handler may call; errno is kept. Lock rank: FLK_RANK_RECENT.
// Fails:   a text that is too long for the buffer is cut. After FLK_MISUSE_TEXTS_MAX texts one line says that no more
//          are written.
#ifndef FLK_TELL_H
#define FLK_TELL_H

#include "base/values.h"

void flk_tell_misuse(const flk_misuse *misuse);
// In the child of a fork, and for tests: texts are written again.
void flk_tell_again(void);
void flk_tell_lock_all(void);
void flk_tell_unlock_all(void);

#endif
