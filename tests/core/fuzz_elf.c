// fuzz_elf.c - the ELF reader on images made of bytes.                       SPDX-License-Identifier: MIT
// Build:   clang -fsanitize=fuzzer,address ... for libFuzzer; or -DFLK_FUZZ_MAIN for a program of its own:
//          fuzz_elf file...   replays    |   fuzz_elf -n count [seed]   runs random inputs
// Input:   edits of a small sound image: 2 bytes where, 1 how, 1 what each. The program headers stay as they
//          are: of a loaded object they are the loader's, and true.
#include "elf/elf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef FLK_HAS_ELF
enum { SYMBOLS = 6, SLOTS = 4, BYTES = 1024 };

// Laid out as the loader would: base 0 of the file is `base` of the image.
typedef struct image {
    Elf64_Dyn dynamic[14];
    Elf64_Sym symbols[SYMBOLS];
    Elf64_Half versions[SYMBOLS + 2];
    uint32_t sysv[2];
    uint32_t gnu[4];
    uint64_t bloom[1];
    uint32_t bucket[1], chain[SYMBOLS];
    char strings[32];
    Elf64_Rela relocations[SLOTS];
    uint64_t slots[SLOTS];
} image;

_Static_assert(sizeof(image) <= BYTES, "addressed by two bytes");

#if defined(__x86_64__)
#define TYPE(name) R_X86_64_##name
#define TYPE_ABSOLUTE R_X86_64_64
#else
#define TYPE(name) R_AARCH64_##name
#define TYPE_ABSOLUTE R_AARCH64_ABS64
#endif

static void fill_symbols(image *m) {
    memcpy(m->strings, "\0malloc\0free\0calloc", 20);
    static const uint8_t names[SYMBOLS] = {0, 1, 8, 13, 8, 0};
    for (size_t i = 1; i < SYMBOLS; i++) {
        m->symbols[i].st_name = names[i];
        m->symbols[i].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
        m->symbols[i].st_shndx = (Elf64_Section)(i & 1);
        m->symbols[i].st_value = i * 8;
        m->chain[i - 1] = (uint32_t)(i * 77) & ~1u;
    }
    m->chain[SYMBOLS - 2] |= 1;
    m->sysv[1] = SYMBOLS;
    m->gnu[0] = m->gnu[1] = m->gnu[2] = 1;
    m->bloom[0] = UINT64_MAX;
    m->bucket[0] = 1;
    static const uint32_t types[SLOTS] = {TYPE(JUMP_SLOT), TYPE(GLOB_DAT),
                                          TYPE_ABSOLUTE, TYPE(RELATIVE)};
    for (size_t i = 0; i < SLOTS; i++) {
        m->relocations[i].r_offset = offsetof(image, slots) + 8 * i;
        m->relocations[i].r_info = ELF64_R_INFO(i + 1, types[i]);
    }
}

static void fill(image *m) {
    *m = (image){.dynamic = {{DT_STRTAB, {offsetof(image, strings)}},
                             {DT_STRSZ, {32}},
                             {DT_SYMTAB, {offsetof(image, symbols)}},
                             {DT_VERSYM, {offsetof(image, versions)}},
                             {DT_GNU_HASH, {offsetof(image, gnu)}},
                             {DT_RELA, {offsetof(image, relocations)}},
                             {DT_RELASZ, {2 * sizeof(Elf64_Rela)}},
                             {DT_JMPREL, {offsetof(image, relocations[2])}},
                             {DT_PLTRELSZ, {2 * sizeof(Elf64_Rela)}},
                             {DT_PLTREL, {DT_RELA}},
                             {DT_NULL, {0}},
                             {DT_NULL, {0}}}};
    fill_symbols(m);
}

static void edit(image *m, const uint8_t *bytes) {
    size_t where = ((size_t)bytes[0] << 8 | bytes[1]) % sizeof *m;
    uint8_t *at = (uint8_t *)m + where;
    if (bytes[2] & 1)
        *at = bytes[3];
    else if (bytes[2] & 2)
        *at ^= (uint8_t)(1 << (bytes[3] & 7));
    else if (bytes[2] & 4 && where % 8 == 0)
        *(uint64_t *)at = (uint64_t)(int8_t)bytes[3];
    else if (bytes[2] & 8)  // another entry of the dynamic section
        m->dynamic[where % 12].d_tag = bytes[3] & 31;
}

static void read_slot(const flk_elf_slot *slot, void *sum) {
    *(uint64_t *)sum += *slot->word + strlen(slot->name) + slot->kind;
}

static void read_export(const flk_elf_export *one, void *sum) {
    *(uint64_t *)sum += one->symbol->st_value + strlen(one->name);
}

// At the end of a block, so that a byte too far is found by the sanitizer.
static uint64_t read_all(image *m) {
    Elf64_Phdr headers[2] = {
        {.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_memsz = sizeof *m},
        {.p_type = PT_DYNAMIC, .p_memsz = sizeof m->dynamic}};
    uint64_t sum = 0;
    flk_elf elf;
    if (!flk_elf_open(&elf, (uintptr_t)m, headers, 2))
        return 0;
    flk_elf_each_slot(&elf, read_slot, &sum);
    flk_elf_each_export(&elf, read_export, &sum);
    sum += flk_elf_defines(&elf, "malloc") + flk_elf_defines(&elf, "none");
    return sum + strlen(flk_elf_name(&elf, SIZE_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile uint64_t sink;
    image *m = malloc(sizeof *m);
    fill(m);
    for (; size >= 4; data += 4, size -= 4)
        edit(m, data);
    sink = read_all(m);
    (void)sink;
    free(m);
    return 0;
}

#ifdef FLK_FUZZ_MAIN
enum { INPUT_MAX = 256 };
static uint8_t input[INPUT_MAX];

static void replay(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file)
        abort();
    LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, file));
    fclose(file);
}

static void run_random(long count, uint64_t state) {
    for (long i = 0; i < count; i++) {
        size_t size = 0;
        for (; size < (size_t)(i % 16) * 4; size++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            input[size] = (uint8_t)(state >> 24);
        }
        LLVMFuzzerTestOneInput(input, size);
    }
    printf("%ld inputs passed\n", count);
}

int main(int count, char **arguments) {
    if (count == 1)
        run_random(20000, 1);
    else if (count > 2 && strcmp(arguments[1], "-n") == 0)
        run_random(atol(arguments[2]),
                   count > 3 ? strtoull(arguments[3], NULL, 10) : 1);
    else
        for (int i = 1; i < count; i++)
            replay(arguments[i]);
    return 0;
}
#endif
#else
int main(void) { return puts("0 inputs passed: no ELF here") < 0; }
#endif
