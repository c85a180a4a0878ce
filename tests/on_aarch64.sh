#!/bin/sh
# Builds the package and its C tests for AArch64 and runs them under qemu-user.
#
#   tests/on_aarch64.sh TREE [OPTION OR TEST OF PYTEST...]
#
# Makes TREE, a Debian 13 for arm64, if it is not there. Without tests it runs
# the C programs, and the tests of attached libraries, native frames and fork.
# The counts are in TREE/opt/result.json, a row for tests/platforms.py. The last
# line is the result.
#
# Needs root, debootstrap, qemu-user-static registered with binfmt_misc, and a
# Python with pip. No package is configured: they are unpacked, which is enough
# for Python and takes a minute in place of an hour. The compiler is that of
# Debian 13 for x86-64, in the same tree: it runs without emulation.
set -eu
tree=$1
shift
mirror=${MIRROR:-http://deb.debian.org/debian}
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$tree/opt"
tree=$(cd "$tree" && pwd)

# unpack FOLDER TREE: all packages of a folder, into a tree.
unpack() {
    for package in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" |
            tar -x --keep-directory-symlink --exclude='./dev/*' -C "$2"
    done
}

make_tree() {
    debootstrap --foreign --arch=arm64 --variant=minbase --include=\
python3,python3-dev,libc6-dev,libgcc-14-dev,libstdc++-14-dev,zlib1g \
        trixie "$tree" "$mirror"
    unpack "$tree/var/cache/apt/archives" "$tree"
    compiler=$tree/opt/x86
    debootstrap --foreign --variant=minbase --include=\
g++-aarch64-linux-gnu,libc6-dev-arm64-cross trixie "$compiler" "$mirror"
    mkdir "$compiler/all"
    unpack "$compiler/var/cache/apt/archives" "$compiler/all"
    for one in lib/x86_64-linux-gnu lib64 lib/gcc-cross libexec/gcc-cross \
        aarch64-linux-gnu; do
        mkdir -p "$tree/usr/$one"
        cp -a "$compiler/all/usr/$one/." "$tree/usr/$one"
    done
    ln -sf usr/lib64 "$tree/lib64"
    cp -a "$compiler"/all/usr/bin/aarch64-linux-gnu-* "$tree/usr/bin"
    rm -r "$compiler"
    for name in cc gcc; do
        ln -sf aarch64-linux-gnu-gcc-14 "$tree/usr/bin/$name"
    done
    ln -sf aarch64-linux-gnu-g++-14 "$tree/usr/bin/c++"
    ln -sf aarch64-linux-gnu-g++-14 "$tree/usr/bin/g++"
    "$python" -m pip install -q --target "$tree/opt/site" \
        --python-version 3.13 --platform manylinux2014_aarch64 \
        --platform manylinux_2_17_aarch64 --only-binary=:all: \
        cffi pytest pytest-timeout 'hypothesis<6.140' 'setuptools>=77'
    touch "$tree/opt/is_made"
}

[ -e "$tree/opt/is_made" ] || make_tree
folder=$(mktemp -d "$tree/opt/run.XXXXXX")
mounted=
leave() {
    for one in $mounted; do umount -l "$tree/$one"; done
    rm -r "$folder"
}
trap leave EXIT
for one in proc dev; do
    mkdir -p "$tree/$one"
    mount --bind "/$one" "$tree/$one" && mounted="$one $mounted"
done
tar -C "$checkout" -c --exclude=.git --exclude=.venv --exclude=./build \
    --exclude='*.so' --exclude=__pycache__ . | tar -x -C "$folder"
[ $# != 0 ] || set -- tests/test_core.py tests/test_attach.py \
    tests/test_native_frames.py tests/test_fork.py \
    -k 'plain or test_attach or test_native or test_fork'
inside=${folder#"$tree"}
cat >"$folder/run" <<'END'
cd "$1" && shift
export PATH=/usr/bin:/bin HOME=/tmp LC_ALL=C.UTF-8 PYTHONPATH=/opt/site
export PYTHONDONTWRITEBYTECODE=1
python3 setup.py -q build_ext --inplace &&
    PYTHONPATH=/opt/site:$PWD python3 tests/platforms.py run --emulated \
        --results /opt/result.json --timeout 1800 "$@"
END
status=0
chroot "$tree" /bin/sh "$inside/run" "$inside" "$@" || status=$?
cat "$tree/opt/result.json"
exit $status
