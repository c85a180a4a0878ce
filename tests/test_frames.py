"""Call paths: each kind of frame is named rightly, our own never shown."""

# ruff: noqa: RUF015, RET503

from __future__ import annotations

import asyncio
import gc
import marshal
import random
import sys
import threading

import pytest
from children import output
from conftest import IS_PYPY, collect

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

pytestmark = pytest.mark.usefixtures("enabled")
PACKAGE = core.PACKAGE_FOLDER


def name_of(frame) -> str:
    return frame.function.rpartition(".")[2]


def only():
    (block,) = LeakTracker.snapshot()
    return block


def frames_of(pointer):
    """Return the frames of a block, which is freed then."""
    frames = LeakTracker.find(pointer).frames
    alloc.free(pointer)
    return frames


def names(frames, count: int) -> list[str]:
    return [name_of(frame) for frame in frames[:count]]


def here() -> tuple[str, int]:
    """Return file and line of the caller, as Python says."""
    frame = sys._getframe(1)
    return frame.f_code.co_filename, frame.f_lineno


def true_path(frame) -> list[tuple[str, int]]:
    """Return (file, line) of a frame and its callers, as Python says."""
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return found


# --- what is recorded ---------------------------------------------------
def test_path_is_what_python_says() -> None:
    """File and line of all frames, innermost first, as sys._getframe has."""
    LeakTracker.enable(stack_depth=64)
    pointer, path = alloc("int"), true_path(sys._getframe())
    frames = frames_of(pointer)
    assert path[:64] == [(f.filename, f.lineno) for f in frames]


@pytest.mark.parametrize("depth", [0, 1, 2, 16, 63, 64])
def test_depth_cuts_the_outer_frames(depth) -> None:
    """So many frames, the innermost ones; 0 means none."""

    def descend(level: int):
        return descend(level - 1) if level else alloc("int")

    LeakTracker.enable(stack_depth=depth)
    frames = frames_of(descend(100))
    assert ["descend"] * depth == names(frames, depth)
    assert depth == len(frames)


def test_depth_counts_by_lines_in_recursion() -> None:
    """Frames of one function at different lines are told apart."""

    def even(level: int):
        if level == 0:
            return alloc("int")
        return odd(level - 1)

    def odd(level: int):
        return even(level - 1)

    frames = frames_of(even(6))
    assert ["even", "odd"] * 3 + ["even"] == names(frames, 7)
    assert frames[0].lineno < frames[2].lineno == frames[4].lineno


def test_line_within_a_statement() -> None:
    """In a call over several lines Python's own line counts."""
    pointer, line = (
        alloc("int"),
        here()[1],
    )
    frame = frames_of(pointer)[0]
    assert __file__ == frame.filename
    assert line - 1 <= frame.lineno <= line


# A tree of calls: frames of Python, of C between them, of generators.
def leaf(_steps) -> None:
    pointer, expected = alloc("int"), true_path(sys._getframe())
    found = LeakTracker.find(pointer).frames
    alloc.free(pointer)
    depth = LeakTracker.stack_depth
    assert [(f.filename, f.lineno) for f in found] == expected[:depth]


def straight(steps) -> None:
    step(steps)


def by_two_lines(steps) -> None:
    if len(steps) % 2:
        step(steps)
    else:
        step(steps)


def through_c(steps) -> None:
    list(map(step, [steps]))


def through_sort(steps) -> None:
    sorted([1], key=lambda _: step(steps))


def through_generator(steps) -> None:
    def produce():
        yield step(steps)

    next(produce())


def through_exec(steps) -> None:
    exec("step(steps)", {"step": step, "steps": steps})


KINDS = (straight, by_two_lines, through_c, through_sort, through_generator)


def step(steps) -> None:
    kind = steps[0] if steps else leaf
    kind(steps[1:])


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 16, 64])
def test_random_call_trees(depth) -> None:
    """The memo of paths never mistakes one for another."""
    chosen = random.Random(depth)
    LeakTracker.enable(stack_depth=depth)
    for _ in range(300):
        step(chosen.choices(KINDS, k=chosen.randrange(20)))


def test_call_trees_of_mortal_code() -> None:
    chosen = random.Random(1)
    LeakTracker.enable(stack_depth=16)
    for _ in range(300):
        step(chosen.choices((*KINDS, through_exec), k=8))


def test_changed_depth_counts_from_now() -> None:
    """Blocks keep the path they were recorded with."""
    LeakTracker.enable(stack_depth=1)
    first = alloc("int")
    LeakTracker.enable(stack_depth=3)
    second = alloc("int")
    assert [1, 3] == [len(block.frames) for block in LeakTracker.snapshot()]
    frames_of(first)
    frames_of(second)


def test_realloc_keeps_first_path() -> None:
    """Not the line that resized it."""

    def resize(pointer):
        return alloc.realloc(pointer, 1000)

    frames = frames_of(resize(alloc("int")))
    assert "test_realloc_keeps_first_path" == name_of(frames[0])


# --- kinds of frames ----------------------------------------------------
def test_generator() -> None:
    """A generator's frame and the frame that advanced it."""

    def produce():
        yield alloc("int")

    def advance(generator):
        return next(generator)

    frames = frames_of(advance(produce()))
    assert ["produce", "advance", "test_generator"] == names(frames, 3)


def test_yield_from() -> None:
    """Delegating generators are all in the path."""

    def inner():
        yield alloc("int")

    def outer():
        yield from inner()

    frames = frames_of(next(outer()))
    assert ["inner", "outer", "test_yield_from"] == names(frames, 3)


def test_generator_expression_and_comprehension() -> None:
    """Whether inlined or not, the line is this one."""
    pointer, line = [alloc("int") for _ in range(1)][0], here()[1]
    frame = frames_of(pointer)[0]
    assert (__file__, line) == (frame.filename, frame.lineno)
    pointer, line = next(alloc("int") for _ in range(1)), here()[1]
    assert "<genexpr>" == name_of(LeakTracker.find(pointer).frames[0])
    assert line == frames_of(pointer)[0].lineno


def test_coroutine_and_task() -> None:
    """Awaiting coroutines are in the path of the awaited one."""

    async def inner():
        await asyncio.sleep(0)
        return alloc("int")

    async def outer():
        return await inner()

    async def main():
        return await asyncio.create_task(outer())

    assert ["inner", "outer"] == names(frames_of(asyncio.run(main())), 2)


def test_async_generator() -> None:
    """An async generator's frame is named."""

    async def produce():
        yield alloc("int")

    async def main():
        async for pointer in produce():
            return pointer

    assert ["produce", "main"] == names(frames_of(asyncio.run(main())), 2)


def test_lambda_and_sort_key() -> None:
    """A lambda called from C code of the interpreter."""
    made = []
    sorted([3], key=lambda _: made.append(alloc("int")) or 0)
    frames = frames_of(made[0])
    assert ["<lambda>", "test_lambda_and_sort_key"] == names(frames, 2)


def test_method_property_and_del() -> None:
    """Methods, properties and finalizers."""

    class Thing:
        @property
        def value(self):
            return alloc("int")

        def __del__(self):
            made.append(alloc("short"))

    made: list = []
    thing = Thing()
    assert ["value", "test_method_property_and_del"] == names(
        frames_of(thing.value), 2
    )
    del thing
    collect()
    assert "__del__" == name_of(frames_of(made[0])[0])


def test_class_body_and_exec() -> None:
    """Code that is no function."""

    class Body:
        pointer = alloc("int")

    assert "Body" == name_of(frames_of(Body.pointer)[0])
    space = {"alloc": alloc}
    exec(compile("\n\npointer = alloc('int')", "<made up>", "exec"), space)
    frame = frames_of(space["pointer"])[0]
    assert ("<module>", "<made up>", 3) == (
        frame.function,
        frame.filename,
        frame.lineno,
    )


def test_thread_path_starts_at_its_function() -> None:
    """Another thread's frames are its own."""
    made = []
    thread = threading.Thread(target=lambda: made.append(alloc("int")))
    thread.start()
    thread.join()
    frames = frames_of(made[0])
    assert "<lambda>" == name_of(frames[0])
    assert "test_thread_path_starts_at_its_function" not in names(frames, 64)


def test_under_a_trace_function() -> None:
    """Tracing and profiling change nothing in the path."""
    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        pointer, line = alloc("int"), here()[1]
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    frame = frames_of(pointer)[0]
    assert (line, "test_under_a_trace_function") == (
        frame.lineno,
        name_of(frame),
    )


def test_inside_a_trace_function() -> None:
    """The trace function itself may allocate."""
    made = []

    def tracer(frame, event, _):
        if event == "call" and frame.f_code.co_name == "target" and not made:
            made.append(alloc("int"))

    def target():
        pass

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        target()
    finally:
        sys.settrace(before)
    assert ["tracer", "target"] == names(frames_of(made[0]), 2)


def test_at_import_time(tmp_path, monkeypatch) -> None:
    """A module's body, found through the import system."""
    (tmp_path / "flk_made_up.py").write_text(
        "from ffi_leak_tracker import diagnostic_calloc\n"
        "pointer = diagnostic_calloc('int')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import flk_made_up

    frame = frames_of(flk_made_up.pointer)[0]
    assert ("<module>", 2) == (frame.function, frame.lineno)
    assert frame.filename.endswith("flk_made_up.py")
    del sys.modules["flk_made_up"]


def test_qualified_names() -> None:
    """Where Python has qualified names they are shown."""

    def inner():
        return alloc("int")

    function = frames_of(inner())[0].function
    expected = inner.__qualname__ if sys.version_info >= (3, 11) else "inner"
    assert function == expected or (IS_PYPY and function.endswith("inner"))


@pytest.mark.parametrize("name", ["café", "名前", "ñ" * 200])
def test_names_beyond_ascii(name) -> None:
    """Names and files of any characters come back as they are."""
    space = {"alloc": alloc}
    code = f"def {name}():\n    return alloc('int')"
    exec(compile(code, f"/tmp/{name}-\udc80.py", "exec"), space)
    frame = frames_of(space[name]())[0]
    assert (name, f"/tmp/{name}-\udc80.py") == (frame.function, frame.filename)


@pytest.mark.parametrize("line", [1, 255, 256, 70_000, 2_000_000])
def test_far_lines(line) -> None:
    """Line numbers of any size."""
    space = {"alloc": alloc}
    exec("\n" * (line - 1) + "pointer = alloc('int')", space)
    assert line == frames_of(space["pointer"])[0].lineno


def test_own_frames_are_never_shown() -> None:
    """Whatever the call, no frame of this package is in a path."""
    with LeakTracker.scope() as scope:
        calls = [alloc("int"), alloc.realloc(alloc("int"), 9)]
        owner = alloc.new("int *")
        LeakTracker.track(4096)
        wrapped = LeakTracker.run_scoped(lambda: alloc("int"), isolated=False)
        decorated = LeakTracker.scope()(lambda: alloc("int"))()
    shown = {f.filename for block in scope.snapshot() for f in block.frames}
    assert 6 == len(scope.snapshot())
    assert not [name for name in shown if name.startswith(PACKAGE)]
    for pointer in (*calls, wrapped, decorated):
        alloc.free(pointer)
    LeakTracker.untrack(4096)
    del owner


def test_files_beside_the_package_are_shown() -> None:
    """Only our folder is hidden, not what starts alike."""
    space = {"alloc": alloc}
    near = PACKAGE.rstrip("/\\") + "_user.py"
    exec(compile("pointer = alloc('int')", near, "exec"), space)
    assert near == frames_of(space["pointer"])[0].filename


# --- code that is gone --------------------------------------------------
def test_dead_code_is_named_rightly() -> None:
    """2000 functions that died: each block still names its own."""
    pointers = []
    for number in range(2000):
        space = {"alloc": alloc}
        exec(
            compile(
                "\n" * (number % 50) + f"def f{number}(): return alloc('int')",
                f"<made {number}>",
                "exec",
            ),
            space,
        )
        pointers.append(space[f"f{number}"]())
        del space
    collect()
    for number, block in enumerate(LeakTracker.snapshot()):
        frame = block.frames[0]
        assert (f"f{number}", f"<made {number}>", number % 50 + 1) == (
            frame.function,
            frame.filename,
            frame.lineno,
        )
    for pointer in pointers:
        alloc.free(pointer)


@pytest.mark.slow
@pytest.mark.skipif(not core.walks_frames, reason="no walker here")
def test_equal_code_that_comes_back_takes_no_memory() -> None:
    """200,000 code objects, made anew each time, that allocate once each."""
    source = "def f():\n    return alloc('int')"
    data = marshal.dumps(compile(source, "<again>", "exec"))
    figures = []
    for _ in range(2):
        for _ in range(100_000):
            space = {"alloc": alloc}
            exec(marshal.loads(data), space)
            alloc.free(space["f"]())
            space.clear()
        stats = LeakTracker.self_stats
        figures.append([stats[name] for name in ("codes", "sites", "bytes")])
    assert figures[0] == figures[1]


def test_equal_code_that_comes_back_is_named_rightly() -> None:
    """Lives of seven functions, mixed: each block names its own."""
    pointers, expected = [], []
    for number in range(3000):
        which = number * 5 % 7
        lines = "\n" * (which // 2)
        source = f"{lines}def f{which % 3}(): return alloc('int')"
        space = {"alloc": alloc}
        exec(compile(source, f"<seven {which % 2}>", "exec"), space)
        pointers.append(space[f"f{which % 3}"]())
        expected.append((f"f{which % 3}", f"<seven {which % 2}>", which // 2))
    assert expected == [
        (frame.function, frame.filename, frame.lineno - 1)
        for frame in (frames_of(pointer)[0] for pointer in pointers)
    ]


def test_same_code_in_two_files() -> None:
    """Equal functions of two files are told apart."""
    pointers = []
    for name in ("<first>", "<second>"):
        space = {"alloc": alloc}
        exec(compile("def f(): return alloc('int')", name, "exec"), space)
        pointers.append(space["f"]())
    files = [block.frames[0].filename for block in LeakTracker.snapshot()]
    assert ["<first>", "<second>"] == files
    for pointer in pointers:
        alloc.free(pointer)


def test_frames_keep_nothing_alive() -> None:
    """Neither code objects nor locals are held by a record."""
    import weakref

    class Local:
        pass

    def make():
        local = Local()
        return alloc("int"), weakref.ref(local)

    pointer, reference = make()
    collect()
    assert reference() is None
    alloc.free(pointer)


@pytest.mark.skipif(not core.walks_frames, reason="no walker here")
def test_code_objects_are_not_held() -> None:
    """A function that allocated dies as it would."""
    import weakref

    space = {"alloc": alloc}
    exec("def f(): return alloc('int')", space)
    pointer, reference = space["f"](), weakref.ref(space["f"].__code__)
    space.clear()
    gc.collect()
    assert reference() is None
    assert "f" == frames_of(pointer)[0].function


def test_frames_after_the_thread_ended() -> None:
    """Resolved long after, when thread and code are gone."""
    made = []

    def start():
        space = {"alloc": alloc, "made": made}
        exec("def gone(): made.append(alloc('int'))", space)
        thread = threading.Thread(target=space["gone"])
        thread.start()
        thread.join()

    start()
    collect()
    assert "gone" == frames_of(made[0])[0].function


def test_walker_agrees_at_import() -> None:
    """On CPython the walker works and nothing is to be admitted."""
    assert core.walks_frames is not IS_PYPY or core.frames_problem
    if core.walks_frames:
        assert core.frames_problem is None


def test_no_sourceless_surprises() -> None:
    """A program without a file: -c, stdin, exec in a thread."""
    code = """
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc
        LeakTracker.enable()
        p = diagnostic_calloc("int")
        frame = LeakTracker.snapshot()[0].frames[0]
        print(frame.function, frame.filename, frame.lineno)
    """
    assert "<module> <string> 4" == output(code)


def test_columns_where_known() -> None:
    """The column of the call, from 0, or None."""
    pointer = alloc("int")
    column = frames_of(pointer)[0].column
    known = sys.version_info >= (3, 11) and core.walks_frames
    assert column == (14 if known else None)


def _down(levels, other):
    """Allocate below some levels, of which one calls from another line."""
    if levels == 0:
        return alloc("char")
    if levels == other:
        return _down(levels - 1, other)
    return _down(levels - 1, other)


@pytest.mark.parametrize("other", range(1, 16))
def test_paths_that_differ_in_one_frame_are_told_apart(other) -> None:
    """In each place, right after the other path was met."""
    LeakTracker.enable(stack_depth=16)
    first = _down.__code__.co_firstlineno
    for level in (0, other, 0, other):
        made = _down(20, level)
        found = [frame.lineno - first for frame in frames_of(made)]
        calls = [5 if n == level else 6 for n in range(1, 16)]
        assert found == [3, *calls]
