// test_elf_fuzz.c - some random inputs of fuzz_elf.c.                        SPDX-License-Identifier: MIT
#include "fuzz_elf.c"
