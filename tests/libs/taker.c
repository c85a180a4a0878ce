// taker.c - another tool: takes malloc's slots of all objects, gives them back.
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOTS_MAX = 4096 };
static struct {
    uintptr_t *word, value;
} taken[SLOTS_MAX];
static int count;

static void *(*const real_malloc)(size_t) = malloc;
static void *(*const real_calloc)(size_t, size_t) = calloc;
static void *(*const real_realloc)(void *, size_t) = realloc;
static void (*const real_free)(void *) = free;

static void *own_malloc(size_t n) { return real_malloc(n); }
static void *own_calloc(size_t n, size_t m) { return real_calloc(n, m); }
static void *own_realloc(void *p, size_t n) { return real_realloc(p, n); }
static void own_free(void *p) { real_free(p); }

static void write_word(uintptr_t *word, uintptr_t value) {
    uintptr_t page = (uintptr_t)word & ~(uintptr_t)4095;
    mprotect((void *)page, 8192, PROT_READ | PROT_WRITE);
    *word = value;
}
static uintptr_t own_function(const char *name) {
    return strcmp(name, "malloc") == 0    ? (uintptr_t)own_malloc
           : strcmp(name, "calloc") == 0  ? (uintptr_t)own_calloc
           : strcmp(name, "realloc") == 0 ? (uintptr_t)own_realloc
           : strcmp(name, "free") == 0    ? (uintptr_t)own_free
                                          : 0;
}
static uintptr_t tag_of(const ElfW(Dyn) * d, ElfW(Addr) base, int tag) {
    for (; d->d_tag != DT_NULL; d++)
        if (d->d_tag == tag)
            return d->d_un.d_ptr >= base || tag == DT_RELASZ ||
                           tag == DT_PLTRELSZ
                       ? d->d_un.d_ptr
                       : d->d_un.d_ptr + base;
    return 0;
}
static void take_table(const struct dl_phdr_info *info, const ElfW(Dyn) * d,
                       int table, int bytes) {
    const ElfW(Rela) *rela = (void *)tag_of(d, info->dlpi_addr, table);
    const ElfW(Sym) *symbols = (void *)tag_of(d, info->dlpi_addr, DT_SYMTAB);
    const char *names = (void *)tag_of(d, info->dlpi_addr, DT_STRTAB);
    size_t left = tag_of(d, 0, bytes) / sizeof *rela;
    for (; rela && left > 0 && count < SLOTS_MAX; rela++, left--) {
        unsigned type = ELF64_R_TYPE(rela->r_info);
        const char *name = names + symbols[ELF64_R_SYM(rela->r_info)].st_name;
        uintptr_t own = own_function(name);
        uintptr_t *word = (void *)(info->dlpi_addr + rela->r_offset);
        // JUMP_SLOT and GLOB_DAT: x86-64, aarch64
        if (!own || (type != 7 && type != 6 && type != 1026 && type != 1025))
            continue;
        taken[count].word = word;
        taken[count++].value = *word;
        write_word(word, own);
    }
}
static int take_object(struct dl_phdr_info *info, size_t size, void *own) {
    const ElfW(Dyn) *d = 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            d = (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    const char *name = info->dlpi_name;
    if (!d || strstr(name, "taker") || strstr(name, "vdso") ||
        strstr(name, "ld-") || strstr(name, "libc.so"))
        return 0;
    take_table(info, d, DT_JMPREL, DT_PLTRELSZ);
    take_table(info, d, DT_RELA, DT_RELASZ);
    return 0;
}
int take_slots(void) {
    count = 0;
    dl_iterate_phdr(take_object, 0);
    return count;
}
void give_slots_back(void) {
    for (int i = 0; i < count; i++)
        write_word(taken[i].word, taken[i].value);
}
