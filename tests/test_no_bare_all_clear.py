"""Each way to get a verdict, in each state in which it knows little."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest
from c_library import child
from children import PACKAGE_PARENT, environment, run
from needs import needs_hooks

pytestmark = needs_hooks

NOTHING = "nothing was watched: only memory from this package's allocators"
#: The state, what is done in it before, and what has to be said.
STATES = {
    "never enabled": ("", "tracking was never enabled: call LeakTracker"),
    "own only": ("LeakTracker.enable()", f"{NOTHING}; LeakTracker.attach()"),
    "attached to nothing": (
        "LeakTracker.attach(exclude=['*'])",
        "no loaded library is left to be recorded",
    ),
    "all that was named is excluded": (
        "LeakTracker.attach([lib], exclude=['plain'])",
        "no loaded library is left to be recorded",
    ),
    "a name that matches nothing": (
        "LeakTracker.attach(['plainn'])",
        'no loaded library matches "plainn" (did you mean "plain"?)',
    ),
    "paused": (
        "LeakTracker.attach([lib]); kept = LeakTracker.pause()",
        "1 pause in force: nothing is recorded until the last one ends",
    ),
    "sampled": (
        "LeakTracker.attach([lib], sample_bytes=10**12)",
        "a block for each 931.3 GiB",
    ),
    "disabled": (
        "LeakTracker.attach([lib]); LeakTracker.disable()",
        "switched off by disable(): nothing is recorded until enable()",
    ),
    "excluded": (
        "LeakTracker.attach(exclude=['plain'])",
        "watched: the allocators of this package, and all libraries but plain",
    ),
    "detached": (
        "LeakTracker.attach([lib]).detach()",
        "nothing is watched since the attachment to libplain.so ended: only",
    ),
    "watched and silent": (
        "LeakTracker.attach([lib])",
        "watched: the allocators of this package, and libplain.so",
    ),
}
#: Of these no check warns: the libraries are watched, and nothing leaked.
GOOD = {"excluded", "watched and silent"}
WAYS = {
    "report": "said = text_of(LeakTracker.emit)",
    "JSON": """
        target = io.StringIO()
        LeakTracker.emit(JsonEmitter(target))
        summary = json.loads(target.getvalue())["summary"]
        assert summary["verdict"] == "nothing recorded"
        said = " ".join(summary["notes"])
    """,
    "logging": """
        LoggingEmitter(clean_level="INFO").emit(LeakTracker.snapshot())
        said = logged.getvalue()
    """,
    "snapshot": "said = ' '.join(LeakTracker.snapshot().notes)",
    "leaks": "said = ' '.join(LeakTracker.leaks().notes)",
    "since": """
        mark = LeakTracker.checkpoint()
        said = ' '.join(LeakTracker.since(mark).notes)
    """,
}
CHECKS = {
    "verify": "LeakTracker.verify_no_leaks()",
    "verify_in_debug": "LeakTracker.verify_no_leaks_in_debug()",
    "budget": "LeakTracker.assert_max(blocks=3)",
    "budget of counts": "LeakTracker.stats.assert_max(blocks=3)",
    "capture": "AllocationStats.capture().assert_max(bytes=3)",
}
#: These switch tracking on by themselves, so it is enabled afterwards.
SCOPED = {
    "scope": "with LeakTracker.scope(verify=True): call()",
    "verified later": """
        with LeakTracker.scope() as scope: call()
        scope.verify_no_leaks()
    """,
    "process scope": """
        with LeakTracker.scope(where="process", verify=True): call()
    """,
    "decorator": """
        LeakTracker.scope(verify=True)(call)()
    """,
    "run_scoped": """
        LeakTracker.run_scoped(lambda: (call(), LeakTracker.verify_no_leaks()))
    """,
    "coroutine": """
        async def work():
            async with LeakTracker.scope(verify=True): call()
        asyncio.run(work())
    """,
    "LeakDetector": """
        with LeakDetector() as detector: call()
        detector.assert_no_leaks()
    """,
    "AllocationTracker": """
        _, stats = AllocationTracker.measure(call)
        stats.assert_max(blocks=3)
    """,
    "measurement": """
        with AllocationTracker.measure() as measured: call()
        measured.assert_max(blocks=3)
    """,
    "PeakMemoryTracker": """
        with PeakMemoryTracker() as tracker: call()
        tracker.assert_max(peak=3)
    """,
    "find_growth": "find_growth(call, rounds=30).assert_none()",
    "find_growth_async": """
        async def work(): call()
        asyncio.run(find_growth_async(work, rounds=30)).assert_none()
    """,
}
PROLOGUE = """
    import asyncio, io, json, logging, warnings
    from ffi_leak_tracker import *
    lib = opened("plain")
    logged = io.StringIO()
    logging.basicConfig(stream=logged, level="INFO")

    def call():
        lib.give(cffi.FFI.NULL)

    def text_of(emit):
        target = io.StringIO()
        emit(target)
        return target.getvalue()

    def check(way, said):
        assert expected in said, (way, said)
        assert "No native memory leaks" not in said, (way, said)
        assert "no native memory leaks" not in said, (way, said)
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", *words],
        env=environment(),
        cwd=PACKAGE_PARENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def code_of(state: str) -> str:
    prepared, said = STATES[state]
    code = textwrap.dedent(PROLOGUE)
    code += f"expected = {said!r}\n"
    return code + f"warnings.simplefilter('ignore')\n{prepared}\n"


def indented(code: str) -> str:
    return textwrap.indent(textwrap.dedent(code).strip(), "    ")


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_every_report_says_what_was_not_seen(state) -> None:
    """In text, JSON, logging and notes; none gives an all-clear."""
    code = code_of(state)
    for name, way in WAYS.items():
        code += textwrap.dedent(way).strip() + f"\ncheck({name!r}, said)\n"
    child(code)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_every_check_warns_of_what_was_not_seen(state) -> None:
    """In the words of the report; where all is watched it is silent."""
    code = code_of(state)
    checks = dict(CHECKS)
    if state not in ("never enabled", "disabled"):
        checks.update(SCOPED)
    for name, way in checks.items():
        code += f"def check_it():\n{indented(way)}\n"
        code += textwrap.dedent(f"""
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check_it()
            said = " ".join(str(one.message) for one in caught)
            if {state in GOOD}:
                assert not caught, ({name!r}, said)
            else:
                check({name!r}, said)
                assert len(caught) == 1, ({name!r}, said)
                assert caught[0].filename == "<string>", caught[0]
        """)
    child(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in SCOPED if name != "AllocationTracker"]
)
def test_a_scope_that_was_switched_off_is_said(name) -> None:
    """disable() in it stops it; enable() and later scopes do not."""
    way = SCOPED[name]
    child(
        textwrap.dedent(PROLOGUE)
        + textwrap.dedent("""
            from ffi_leak_tracker import diagnostic_malloc as malloc
            expected = ""

            def call():
                malloc.free(malloc("char", 1))
                if is_off:
                    LeakTracker.disable()
        """)
        + f"def check_it():\n{indented(way)}\n"
        + textwrap.dedent("""
            for is_off in (False, True, False):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    check_it()
                said = [str(one.message) for one in caught]
                assert len(said) == is_off, said
                assert not is_off or "off" in said[0], said
        """)
    )


# --- growth -------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_find_growth_promises_only_what_it_saw(state) -> None:
    """It never advises attach() while attached."""
    _, said = STATES[state]
    if state == "never enabled":  # it switches tracking on itself
        said = NOTHING
    if state == "disabled":  # so the attachment records
        said = STATES["watched and silent"][1]
    said = said.replace(", and", " and").partition(";")[0]
    child(
        code_of(state)
        + textwrap.dedent(f"""
            said = {said!r}
            text = str(find_growth(call, rounds=30))
            assert text.startswith("No allocations were recorded."), text
            assert said in text, text
            assert "would have been seen" not in text, text
            assert "Does not grow" not in text, text
            if LeakTracker.attachments:
                assert "LeakTracker.attach()" not in text, text
        """)
    )


@pytest.mark.slow
def test_find_growth_names_what_was_watched() -> None:
    """Where something was recorded; a sample promises nothing."""
    child(
        textwrap.dedent(PROLOGUE)
        + textwrap.dedent("""
            from ffi_leak_tracker import diagnostic_malloc as malloc
            warnings.simplefilter("error")

            def own(): malloc.free(malloc("char", 1))
            def native(): lib.give(lib.take(1))
            def promise(growth):
                lines = str(growth).splitlines()
                return [one for one in lines if "would have" in one]

            (line,) = promise(find_growth(own, rounds=30))
            assert "seen in the allocators of this package: a leak" in line
            assert "LeakTracker.attach() around the calls" in line
            with LeakTracker.attach([lib]):
                growth = find_growth(native, rounds=30)
                growth.assert_none()
                (line,) = promise(growth)
                said = "seen in the allocators of this package and libplain.so:"
                assert said in line and "attach" not in line, line
                assert growth.watched[1:] == ("libplain.so",)
                assert growth.to_dict()["watched"][1:] == ["libplain.so"]
            LeakTracker.reset()
            with LeakTracker.attach([lib], sample_bytes=10):
                growth = find_growth(native, rounds=30)
                assert promise(growth) == []
                assert "a sample is recorded" in growth.unseen[0]

            def attaches():
                with LeakTracker.attach([lib]):
                    lib.take(1)

            growth = find_growth(attaches, rounds=30)
            assert promise(growth) == []
            assert "an attachment ended during the calls" in growth.unseen[0]
        """)
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_a_monitor_says_what_it_cannot_see(state) -> None:
    """Once in its log, until it changes; and in ``unseen``."""
    is_good = state in GOOD
    child(
        code_of(state)
        + textwrap.dedent(f"""
            monitor = GrowthMonitor()
            monitor.sample(), monitor.sample()
            said = logged.getvalue()
            if {is_good}:
                assert monitor.unseen == () and said == "", said
            else:
                assert said.count("growth may not be seen: ") == 1, said
                assert expected in said, said
                assert any(expected in one for one in monitor.unseen)
        """)
    )


# --- programs ---------------------------------------------------------------
@pytest.mark.slow
def test_run_says_what_was_not_seen(tmp_path) -> None:
    """On its report, and beside it if that goes to a file."""
    program = tmp_path / "program.py"
    target = tmp_path / "report.txt"
    pause = "from ffi_leak_tracker import *\n"
    pause += "LeakTracker.kept = LeakTracker.pause()\n"
    for text, options, said, status in (
        ("", ["--own"], NOTHING, 0),
        ("", [], "and all libraries", 0),
        ("", ["--library", "qqqq"], 'no loaded library matches "qqqq"', 2),
        (pause, [], "1 pause in force", 0),
    ):
        program.write_text(text)
        done = command("run", *options, str(program))
        assert done.returncode == status, done
        assert said in done.stderr, done.stderr
        assert "No native memory leaks" not in done.stderr
        done = command("run", *options, "--report", str(target), str(program))
        assert done.returncode == status, done
        assert said in target.read_text(), target.read_text()
        assert "no allocations were recorded, see" in done.stderr, done.stderr


def test_run_says_beside_a_clean_report_what_was_not_seen(tmp_path) -> None:
    """A pause at the end; a program that recorded all is quiet."""
    program = tmp_path / "program.py"
    target = tmp_path / "report.txt"
    text = (
        "from ffi_leak_tracker import *\n"
        "diagnostic_malloc.free(diagnostic_malloc('char', 1))\n"
    )
    for more, said in (
        ("", ""),
        ("LeakTracker.kept = LeakTracker.pause()\n", "1 pause in force"),
    ):
        program.write_text(text + more)
        done = command("run", "--report", str(target), str(program))
        assert done.returncode == 0, done
        assert said in done.stderr, done.stderr
        assert bool(said) == bool(done.stderr), done.stderr


def test_the_report_at_exit_says_what_was_not_seen() -> None:
    """FFI_LEAK_TRACKER=on watches no library."""
    done = run("import ffi_leak_tracker", FFI_LEAK_TRACKER="on")
    assert NOTHING in done.stderr or done.stderr == "", done.stderr
    assert not re.search("No native memory leaks", done.stderr)
