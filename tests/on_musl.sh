#!/bin/sh
# Builds the core and its C tests with Debian's musl-gcc and runs them.
#
#   tests/on_musl.sh [OPTION OF PYTEST...]
#
# Needs musl-tools, and a Python with pytest and this package. The last line is
# the result. libgcc's unwinder asks for _dl_find_object, which musl does not
# have: a function that finds nothing stands in for it.
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
echo 'int _dl_find_object(void *pc, void *out)
{ (void)pc, (void)out; return -1; }' >"$folder/stub.c"
# The headers of the kernel lie beside those of glibc.
kernel="-idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"
musl-gcc -O1 -fPIC -c "$folder/stub.c" -o "$folder/stub.o"
cat >"$folder/cc" <<END
#!/bin/sh
for one; do
    [ "\$one" = -c ] && exec musl-gcc "\$@" $kernel
done
exec musl-gcc "\$@" $kernel "$folder/stub.o"
END
chmod +x "$folder/cc"
cd "$(dirname "$0")/.."
CC="$folder/cc" "${PYTHON:-python3}" -m pytest -q -p no:cacheprovider \
    tests/test_core.py -k 'plain' "$@"
