#!/bin/sh
# Builds the core and its C tests with Debian's musl-gcc and runs them.
#
#   tests/on_musl.sh [OPTION OF PYTEST...]
#
# Needs musl-tools, and a Python with pytest and this package. The last line is
# the result. libgcc's unwinder asks for _dl_find_object, which musl does not
# have: a function that asks dl_iterate_phdr stands in for it. test_attach_cxx
# fails for want of a libstdc++ for musl, and test_unwind for want of execinfo.h.
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cat >"$folder/stub.c" <<'END'
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
typedef struct found {
    unsigned long long flags;
    uintptr_t begin, end;
    void *link_map;
    uintptr_t tables;
    unsigned long long reserved[7];
} found;
typedef struct search {
    uintptr_t pc;
    found *out;
} search;
static int look(struct dl_phdr_info *info, size_t size, void *context) {
    search *s = context;
    uintptr_t begin = UINTPTR_MAX, end = 0, tables = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *one = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + one->p_vaddr;
        if (one->p_type == PT_LOAD) {
            begin = at < begin ? at : begin;
            end = at + one->p_memsz > end ? at + one->p_memsz : end;
        } else if (one->p_type == PT_GNU_EH_FRAME) {
            tables = at;
        }
    }
    if (s->pc < begin || s->pc >= end || !tables)
        return 0;
    *s->out = (found){.begin = begin, .end = end, .tables = tables};
    return 1;
}
int _dl_find_object(void *pc, found *out) {
    search s = {(uintptr_t)pc, out};
    return dl_iterate_phdr(look, &s) ? 0 : -1;
}
END
# The headers of the kernel lie beside those of glibc.
kernel="-Wno-error=unused-function -idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"
musl-gcc -O1 -fPIC -c "$folder/stub.c" -o "$folder/stub.o"
cat >"$folder/cc" <<END
#!/bin/sh
for one; do
    [ "\$one" = -c ] && exec musl-gcc "\$@" $kernel
done
exec musl-gcc "\$@" $kernel "$folder/stub.o" -Wl,--eh-frame-hdr
END
chmod +x "$folder/cc"
cd "$(dirname "$0")/.."
status=0
CC="$folder/cc" "${PYTHON:-python3}" -m pytest -q -p no:cacheprovider \
    --junitxml="$folder/results.xml" tests/test_core.py -k 'plain' "$@" ||
    status=$?
# With RESULTS it is a row for tests/platforms.py.
[ -z "${RESULTS:-}" ] || "${PYTHON:-python3}" tests/platforms.py run --programs \
    --junit "$folder/results.xml" --results "$RESULTS" --build debug \
    --system "musl $(dpkg-query -W -f '${Version}' musl | cut -d- -f1)" \
    tests/test_core.py
exit $status
