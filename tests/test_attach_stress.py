"""attach() while everything else happens; STRESS_SECONDS for longer."""

from __future__ import annotations

import os

import pytest
from c_library import child, needs_hooks

pytestmark = [*needs_hooks, pytest.mark.slow]
SECONDS = float(os.environ.get("STRESS_SECONDS", "10"))

WORK = """
import contextlib, random, signal, time
lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
plain = opened("plain")
seed = random.randrange(10**9)
choose = random.Random(seed)
end = time.monotonic() + {seconds}
handles, kept, counts = [], [], {{}}
LeakTracker.attach([lib]).detach()  # imports what it needs


def books_are_right():
    # The threads go on: only what is summed under its lock is compared.
    return core.lib.flk_tracker_check()


def attach():
    what = choose.choice([[lib], ["libstaying*"], [plain], None])
    mappings = choose.random() < 0.2
    handles.append(LeakTracker.attach(what, mappings=mappings))


def detach():
    if handles:
        handles.pop(choose.randrange(len(handles))).detach()


def detach_all():
    LeakTracker.detach()
    handles.clear()


def scope():
    where = choose.choice(["context", "process"])
    with LeakTracker.scope(where=where) as one:
        mine = [lib.take(7) for _ in range(20)]
        for block in mine:
            lib.give(block)
        lib.churn(200)
        one.snapshot()
    stats = one.stats
    assert stats.live_blocks >= 0


def scope_verifies():
    is_on = LeakTracker.self_stats["hooks_attached"]
    with LeakTracker.scope() as one:
        block = plain.take(12345)
        found = [b for b in one.snapshot() if b.size == 12345]
        line = here() - 2
        assert len(found) <= is_on
        assert lines(found) == [line] * len(found), found
        plain.give(block)
        assert not [b for b in one.snapshot() if b.size == 12345]


def keep():
    kept.append(plain.take(choose.randrange(1, 5000)))


def give():
    while kept:
        plain.give(kept.pop())


def snapshot():
    found = LeakTracker.snapshot()
    for block in found[:20]:
        str(block), block.frames


def pause():
    with LeakTracker.pause():
        lib.churn(100)


def load():
    ffi = cffi.FFI()
    ffi.cdef("void *take(size_t); void give(void *);")
    other = ffi.dlopen(path("tables"))
    other.give(other.take(99))
    ffi.dlclose(other)


def fork():
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        assert status == 0, (status, counts)
        return
    code = 1
    try:
        signal.alarm(60)
        plain.give(plain.take(10))
        LeakTracker.snapshot()
        with LeakTracker.attach([plain]):
            block = plain.take(54321)
            assert 54321 in sizes(LeakTracker.snapshot())
            plain.give(block)
        LeakTracker.detach()
        assert LeakTracker.self_stats["hooks_slots"] == 0
        assert len(LeakTracker.snapshot(include_inherited=True)) == 0
        assert core.lib.flk_tracker_check()
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)


STEPS = [attach, attach, detach, detach_all, scope, scope_verifies, keep,
         keep, give, snapshot, pause, load, fork, books_are_right]


def run():
    while time.monotonic() < end:
        step = choose.choice(STEPS)
        counts[step.__name__] = counts.get(step.__name__, 0) + 1
        assert step() is not False, (step, seed)
"""

FINISH = """
give()
detach_all()
with LeakTracker.attach([plain]):
    block = plain.take(10); line = here()
    found = LeakTracker.snapshot()
    assert (sizes(found), lines(found)) == ([10], [line])
    plain.give(block)
    LeakTracker.verify_no_leaks()
figures = LeakTracker.self_stats
assert figures["hooks_slots"] == figures["hooks_failed_words"] == 0
assert figures["dropped"] == 0, figures
assert figures["entries"] == 0, figures
stats = LeakTracker.stats
assert stats.live_blocks == stats.live_bytes == 0, stats
assert LeakTracker.misuses() == (), LeakTracker.misuses()[0]
assert core.lib.flk_tracker_check()
print(seed, counts)
"""


def check(begin: str, stop: str) -> None:
    work = WORK.format(seconds=SECONDS)
    code = f"{work}\n{begin}\nrun()\n{stop}\n{FINISH}"
    print(child(code, timeout=SECONDS + 120))


def test_two_threads_of_c() -> None:
    """They know nothing of Python and never stop."""
    check("lib.start_endless(2)", "lib.stop_endless(2)")


def test_two_threads_of_python() -> None:
    """They call C with the GIL released, in scopes of their own."""
    check(
        """
def work():
    while not over.is_set():
        with LeakTracker.scope() as one:
            lib.churn(3000)
            block = lib.take(24)
            one.snapshot()
            lib.give(block)
over = threading.Event()
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
""",
        """
over.set()
for thread in threads:
    thread.join()
del threads, thread
""",
    )
