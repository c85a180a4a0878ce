"""All forms of attach() see the same blocks of a library, each once.

A table: how a library was built and is called, how it takes a block, and the
form of attach().
"""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import cffi
import pytest
from c_library import CXX, FOLDER, child, child_environment, path
from children import environment
from needs import needs_hooks

pytestmark = needs_hooks

#: The sizes of the blocks that a function takes, and what gives them back.
OF_C = {
    "plain": ([("malloc", 300)], "give"),
    "tail": ([("calloc", 100)], "give"),
    "resized": ([("malloc", 500)], "give"),
    "text": ([("strdup", 8)], "give"),
    "aligned": ([("posix_memalign", 96)], "give"),
    "by_table": ([("malloc", 70)], "give_by_table"),
}
OF_CXX = {
    **{name: OF_C[name] for name in ("plain", "tail", "resized", "text")},
    "one": ([("operator new", 4)], "give_one"),
    "many": ([("operator new[]", 50)], "give_many"),
    "string": ([("operator new", 32), ("operator new", 101)], "give_string"),
    "error": ([("operator new", 16), ("operator new", 102)], "give_error"),
    "stream": ([("operator new", 392), ("operator new", 513)], "give_stream"),
    "file": (
        [("fopen", 472), ("operator new", 528), ("operator new[]", 8192)],
        "give_file",
    ),
    "thrown": ([], "give"),
}
#: With OWN_NEW, operator new[] of the runtime calls the library's operator new.
OF_OWN_NEW = {**OF_CXX, "many": ([("operator new[]", 50)], "give_many")}
OF_OWN_MALLOC = {"plain": OF_C["plain"]}
#: Calls of a library's own operator new that go by no slot: the malloc below.
SYMBOLIC = {"operator new": "malloc", "operator new[]": "malloc"}


def renamed(table, names, more=0):
    return {
        way: (
            [(names.get(t, t), s + more * (t in names)) for t, s in sizes],
            by,
        )
        for way, (sizes, by) in table.items()
    }


BUILDS = {
    "C -O0": ("ways_of_c.c", "-O0", OF_C),
    "C -O2": ("ways_of_c.c", "-O2", OF_C),
    "C -O2 -fno-plt": ("ways_of_c.c", "-O2 -fno-plt", OF_C),
    "C -O2 -z now": ("ways_of_c.c", "-O2 -Wl,-z,now", OF_C),
    "C -O2 -z lazy": ("ways_of_c.c", "-O2 -Wl,-z,lazy", OF_C),
    "C -O2 -Bsymbolic": ("ways_of_c.c", "-O2 -Wl,-Bsymbolic", OF_C),
    "C++17 -O0": ("ways.cpp", "-std=gnu++17 -O0", OF_CXX),
    "C++17 -O2": ("ways.cpp", "-std=gnu++17 -O2", OF_CXX),
    "C++20 -O2": ("ways.cpp", "-std=gnu++20 -O2", OF_CXX),
    "C++20 -O2 -fno-plt -z now": (
        "ways.cpp",
        "-std=gnu++20 -O2 -fno-plt -Wl,-z,now",
        OF_CXX,
    ),
    "C++17 -O2 -Bsymbolic": (
        "ways.cpp",
        "-std=gnu++17 -O2 -Wl,-Bsymbolic",
        OF_CXX,
    ),
    "static runtime": (
        "ways.cpp",
        "-std=gnu++17 -O2 -static-libstdc++ -static-libgcc",
        OF_CXX,
    ),
    "static runtime, -Bsymbolic": (
        "ways.cpp",
        "-std=gnu++17 -O2 -static-libstdc++ -Wl,-Bsymbolic",
        renamed(OF_CXX, SYMBOLIC),
    ),
    "own operator new": ("ways.cpp", "-std=gnu++17 -O2 -DOWN_NEW", OF_OWN_NEW),
    "own malloc": ("own_malloc.c", "-O2", OF_OWN_MALLOC),
    "own malloc, -Bsymbolic": (
        "own_malloc.c",
        "-O2 -Wl,-Bsymbolic",
        OF_OWN_MALLOC,
    ),
}
FORMS = {
    "attach()": "None",
    "path": "[path_now]",
    "name": "[os.path.basename(path_now)]",
    "lib": "[lib]",
    "lib*": "['lib*']",
    "*": "['*']",
}

#: Runs in the child: `build` makes a copy of the library for each form, so
#: that one is loaded before attach() and another one after it.
CHECK = '''
import _ctypes, collections, ctypes, shutil, subprocess
from c_library import COMPILER, CXX, SOURCES
is_ctypes = WITH == "ctypes"

def build(file, flags):
    target = FOLDER / f"libways-{NAME}.so"
    compiler = CXX if file.endswith("cpp") else COMPILER
    subprocess.run([compiler, "-w", "-g", "-D_GNU_SOURCE", "-fno-builtin",
        "-shared", "-fPIC", "-o", target, SOURCES / file, *flags.split()],
        check=True)
    return str(target)

def load(path):
    if is_ctypes:
        lib = ctypes.CDLL(path)
        for name in {*WAYS, *(by for _, by in WAYS.values())}:
            function = getattr(lib, name)
            function.restype = ctypes.c_void_p
            function.argtypes = [] if name in WAYS else [ctypes.c_void_p]
        return lib
    ffi = cffi.FFI()
    ffi.cdef("".join(f"void *{one}(void);" for one in WAYS))
    ffi.cdef("".join(f"void {by}(void *);" for _, by in {
        by: (0, by) for _, by in WAYS.values()}.values()))
    opened.append(ffi)
    return ffi.dlopen(path)

def unload(lib):
    if is_ctypes:
        _ctypes.dlclose(lib._handle)
    else:
        opened.pop().dlclose(lib)

opened = []

def blocks(scope, way):
    """The blocks of a call."""
    return sorted((b.type, b.size) for b in scope.snapshot())

def check(lib, form, when):
    for way, (expected, by) in WAYS.items():
        with LeakTracker.scope(name=way) as scope:
            made = getattr(lib, way)()
        found = blocks(scope, way)
        counted = collections.Counter(found)
        missing = collections.Counter(map(tuple, expected)) - counted
        extra = counted - collections.Counter(map(tuple, expected))
        if form in ("lib*", "*"):  # the C library and the interpreter, too
            extra = {one: count for one, count in extra.items()
                     if one[0].startswith("operator")}
        assert not missing and not extra, (form, when, way, found, expected)
        getattr(lib, by)(made)
        left = [b for b in blocks(scope, way) if b in map(tuple, expected)]
        assert not left, (form, when, way, "left", left)

original = build(FILE, FLAGS)
for number, (form, code) in enumerate(FORMS.items()):
    for when in "before", "after":
        path_now = original.replace(".so", f"_{number}{when}.so")
        shutil.copy(original, path_now)
        lib = load(path_now) if when == "before" else None
        if form == "lib" and when == "after":
            continue
        with LeakTracker.attach(eval(code)):
            lib = lib or load(path_now)
            check(lib, form, when)
            assert LeakTracker.misuses() == ()
        unload(lib)
'''


#: Every build is called by cffi; the quick ones by ctypes as well.
QUICK = ("C -O2", "C++17 -O2", "static runtime", "own operator new")
CALLED = [
    pytest.param(
        build,
        way,
        marks=[pytest.mark.slow] * (way == "ctypes" and build not in QUICK),
    )
    for build in BUILDS
    for way in ("cffi", "ctypes")
]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "way"), CALLED)
def test_forms_agree(build, way) -> None:
    """Each block once, with its size, under each form of attach()."""
    run_table(build, way)


JEMALLOC = next(Path("/usr/lib").glob("*/libjemalloc.so.2"), None)


@pytest.mark.slow
@pytest.mark.skipif(JEMALLOC is None, reason="no libjemalloc")
@pytest.mark.parametrize(
    "build",
    ["C -O2", "C++17 -O2", "static runtime", "own operator new", "own malloc"],
)
def test_forms_agree_with_another_allocator(build) -> None:
    """Preloaded, it serves every library, and the C library too."""
    run_table(build, "cffi", LD_PRELOAD=str(JEMALLOC))


def run_table(build, way, **changes):
    file, flags, table = BUILDS[build]
    if file.endswith("cpp") and CXX is None:
        pytest.skip("no C++ compiler")
    number = list(BUILDS).index(build)
    child(
        f"NAME = '{way}{number}'\n"
        f"FILE, FLAGS, WITH = {file!r}, {flags!r}, {way!r}\n"
        f"WAYS, FORMS = {table!r}, {FORMS!r}\n{CHECK}",
        **changes,
    )


@pytest.mark.slow
@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("form", ["[one]", "None, exclude=[other]"])
def test_the_runtime_works_for_its_caller(form) -> None:
    """What libstdc++ allocates for another library is not recorded."""
    path("ways", "-O2", as_name="one")
    path("ways", "-O2", as_name="other")
    child(f"""
        import ctypes
        one, other = path("ways", as_name="one"), path("ways", as_name="other")
        lib, silent = ctypes.CDLL(one), ctypes.CDLL(other)
        for each in lib, silent:
            each.string.restype = ctypes.c_void_p
            each.grow.argtypes = [ctypes.c_void_p]
        with LeakTracker.attach({form}):
            made = silent.string()
            for way in ("string", "file", "stream", "error", "thrown", "tail"):
                getattr(silent, way)()
            assert len(LeakTracker.snapshot()) == 0, LeakTracker.snapshot()
            mine = lib.string()
            assert sizes(LeakTracker.snapshot()) == [32, 101]
            lib.grow(mine)  # a tail call into the runtime
            assert sizes(LeakTracker.snapshot()) == [32, 1001]
    """)


@pytest.mark.slow
@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
def test_a_failed_new_blinds_nobody() -> None:
    """An exception leaves operator new; the thread is recorded as before."""
    path("ways", "-O2")
    child("""
        import ctypes
        lib = ctypes.CDLL(path("ways"))
        with LeakTracker.attach(["libways*"]):
            for _ in range(3):
                assert lib.too_much() == 1
            with LeakTracker.scope() as scope:
                lib.string(), lib.one(), lib.many(), lib.plain()
            assert sizes(scope.snapshot()) == [4, 32, 50, 101, 300]
            with LeakTracker.scope() as scope:
                assert lib.handled() == 1
            # the handler's own block, and none for the attempts
            assert sizes(scope.snapshot()) == [77], scope.snapshot()
    """)


# --- the command line, and modules of cffi -------------------------------
PROGRAM = """
import cffi
ffi = cffi.FFI()
ffi.cdef("void *plain(void); void *tail(void); void *string(void);"
         "void *file(void); void *stream(void); void give_string(void *);")
lib = ffi.dlopen({path!r})
lib.plain(), lib.tail(), lib.string(), lib.file(), lib.stream()
lib.give_string(lib.string())
from ffi_leak_tracker import LeakTracker
print(sorted((b.type, b.size) for b in LeakTracker.snapshot()))
"""
OF_PROGRAM = sorted(
    pair
    for way in ("plain", "tail", "string", "file", "stream")
    for pair in OF_CXX[way][0]
)


@pytest.mark.slow
@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("flags", ["", "-static-libstdc++"], ids=str)
@pytest.mark.parametrize("option", ["--native", "--library=libclways*"])
def test_the_command_line_agrees(option, flags, tmp_path) -> None:
    """Run --native and run --library report what attach() records."""
    named = "clways" + "s" * bool(flags)
    where = path("ways", "-O2", *flags.split(), as_name=named)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(path=where), "utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ffi_leak_tracker",
            "run",
            option,
            "--json",
            "found.json",
            "program.py",
        ],
        env=environment(**child_environment()),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    blocks = literal_eval(done.stdout)
    # A static runtime keeps 71 KiB of its own, for exceptions without memory.
    blocks = [one for one in blocks if one[1] < 70_000 or not flags]
    assert sorted(blocks) == OF_PROGRAM, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        "None",
        "['*libtails.so']",
        "[_flk_tails]",
        "[_flk_tails.lib]",
        "['lib*']",
    ],
)
def test_a_module_of_cffi_agrees(form) -> None:
    """API mode: the wrappers of the module are between Python and the library.

    Both are loaded after attach(), or before it.
    """
    folder = path("ways_of_c", "-O2", as_name="tails").rpartition("/")[0]
    made = FOLDER / "tails"
    if not made.exists():
        ffi = cffi.FFI()
        ffi.cdef("void *plain(void); void *tail(void); void *text(void);")
        ffi.set_source(
            "_flk_tails",
            "void *plain(void); void *tail(void); void *text(void);",
            libraries=["tails"],
            library_dirs=[folder],
            extra_link_args=[f"-Wl,-rpath,{folder}"],
        )
        ffi.compile(str(made))
    child(
        f"""
        if {"_flk" in form}:
            import _flk_tails
        with LeakTracker.attach({form}):
            import _flk_tails
            lib = _flk_tails.lib
            with LeakTracker.scope() as scope:
                for _ in range(1000):
                    lib.tail()
            # attach to lib* records the C library too, which is first used
            assert sizes(scope.snapshot()).count(100) == 1000, scope.snapshot()
            with LeakTracker.scope() as scope:
                lib.text(), lib.plain()
            assert sizes(scope.snapshot()) == [8, 300]
        """,
        PYTHONPATH=f"{child_environment()['PYTHONPATH']}:{made}",
    )


# --- libraries that come after attach() ----------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("form", ["None", "[late]", "['liblate*']"])
@pytest.mark.parametrize("caller", ["cffi", "ctypes"])
def test_the_first_call_of_a_late_library(form, caller) -> None:
    """1,000 of 1,000, tail calls too; each way with a library of its own."""
    ways = ["tail", "text", "plain", "by_table"]
    for way in ways:
        path("ways_of_c", "-O2", as_name=f"late_{way}")
    child(f"""
        import ctypes
        for way in {ways}:
            late = path("ways_of_c", as_name=f"late_{{way}}")
            ffi = cffi.FFI()
            ffi.cdef(f"void *{{way}}(void);")
            with LeakTracker.attach({form}), LeakTracker.scope() as scope:
                use = ctypes.CDLL if {caller == "ctypes"} else ffi.dlopen
                lib = use(late)
                for _ in range(1000):
                    getattr(lib, way)()
                assert len(scope.snapshot()) == 1000, (way, scope.snapshot())
    """)


@pytest.mark.parametrize("caller", ["cffi", "ctypes"])
def test_a_late_library_that_is_not_named_is_silent(caller) -> None:
    """Its tail calls are not taken for those of another one."""
    path("ways_of_c", "-O2", as_name="late")
    child(f"""
        import ctypes
        ffi = cffi.FFI()
        ffi.cdef("void *tail(void);")
        named = opened("plain")
        with LeakTracker.attach(["libplain*"]):
            use = ctypes.CDLL if {caller == "ctypes"} else ffi.dlopen
            lib = use(path("ways_of_c", as_name="late"))
            for _ in range(10):
                lib.tail()
            assert len(LeakTracker.snapshot()) == 0, LeakTracker.snapshot()
            named.take(5)
            assert sizes(LeakTracker.snapshot()) == [5]
    """)


# --- functions that Python code looks up ---------------------------------
LOOKED_UP = """
    import ctypes
    ffi = cffi.FFI()
    ffi.cdef("void *malloc(size_t); char *strdup(const char *);"
             "void free(void *);")
    other = opened("plain")
    with LeakTracker.attach({form}):
        lib = ffi.dlopen({name!r})
        c = ctypes.CDLL({name!r})
        c.malloc.restype = c.strdup.restype = ctypes.c_void_p
        c.free.argtypes = [ctypes.c_void_p]
        with LeakTracker.scope() as scope:
            made = [lib.malloc(1000), lib.strdup(b"six...")]
            made += [c.malloc(1001), c.strdup(b"seven..")]
        wanted = {wanted}
        found = [b for b in sizes(scope.snapshot()) if b in (7, 8, 1000, 1001)]
        assert found == wanted, scope.snapshot()
        for block in made[:2]:
            lib.free(block)
        for block in made[2:]:
            c.free(block)
        left = [b for b in sizes(scope.snapshot()) if b in (7, 8, 1000, 1001)]
        assert left == [], left
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "libc.so.6"])
@pytest.mark.parametrize(
    "form", ["None", "None, include_python=True", "['*']", "['libc.so*']"]
)
def test_looked_up_functions_are_the_users(form, name) -> None:
    """ABI mode and ctypes: the caller is cffi or libffi, for a user."""
    child(LOOKED_UP.format(form=form, name=name, wanted=[7, 8, 1000, 1001]))


@pytest.mark.parametrize(
    "form", ["['libplain*']", "[other]", "None, exclude=['_c*', 'libffi*']"]
)
def test_looked_up_functions_of_others_are_silent(form) -> None:
    """They are not the calls of a library that is named."""
    child(LOOKED_UP.format(form=form, name=None, wanted=[]))


# --- pointers that were copied before attach() ---------------------------
@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "-fno-plt", "-Wl,-z,now"], ids=str)
@pytest.mark.parametrize("form", ["None", "[path_now]", "['libcopied*']"])
def test_copied_pointers_are_recorded(form, flags) -> None:
    """Variables that a library fills at run time with malloc and free."""
    name = f"copied{''.join(one for one in flags if one.isalpha())}"
    child(f"""
        import ctypes
        path_now = path("copied", *{flags.split()!r}, as_name={name!r})
        lib = ctypes.CDLL(path_now)
        lib.take.restype = lib.text.restype = ctypes.c_void_p
        lib.give.argtypes = [ctypes.c_void_p]
        lib.copy()
        for _ in range(2):
            with LeakTracker.attach({form}):
                made = [lib.take(), lib.text()]
                assert sizes(LeakTracker.snapshot()) == [6, 123]
                for block in made:
                    lib.give(block)
                assert len(LeakTracker.snapshot()) == 0
            assert lib.is_original() == 1
            lib.give(lib.take())
    """)


def test_a_copied_free_of_another_library_is_seen() -> None:
    """A free that is missed is a false leak."""
    child("""
        lib, other = opened("plain"), opened("copied")
        other.copy()
        with LeakTracker.attach(["libplain*"]):
            block = lib.take(10)
            other.take()
            assert sizes(LeakTracker.snapshot()) == [10]
            other.give(block)
            assert len(LeakTracker.snapshot()) == 0
    """)
