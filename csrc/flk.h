// flk.h - api/api.h for the C compiler.                                      SPDX-License-Identifier: MIT
#ifndef FLK_H
#define FLK_H

#include <stddef.h>
#include <stdint.h>

#include "api/api.h"

#endif
