"""Attach, detach, load, scope, pause and fork beside threads of C and Python.

What is recorded of a call in the midst of this is exact: its line and size.
"""

from __future__ import annotations

import contextlib
import os

from _common import LeakTracker, Stress, core, run
from c_library import cffi, here, lines, opened, path, sizes


class Work:
    """The steps, and the attachments and blocks that they leave."""

    def __init__(self, stress: Stress) -> None:
        self.stress = stress
        self.chance = stress.random()
        self.lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
        self.plain = opened("plain")
        self.handles: list[object] = []
        self.kept: list[object] = []

    def attach(self) -> None:
        wanted = [[self.lib], ["libstaying*"], [self.plain], None]
        mappings = self.chance.random() < 0.2
        what = self.chance.choice(wanted)
        self.handles.append(LeakTracker.attach(what, mappings=mappings))

    def detach(self) -> None:
        if self.handles:
            self.handles.pop(self.chance.randrange(len(self.handles))).detach()

    def detach_all(self) -> None:
        LeakTracker.detach()
        self.handles.clear()

    def scope(self) -> None:
        where = self.chance.choice(["context", "process"])
        with LeakTracker.scope(where=where) as one:
            mine = [self.lib.take(7) for _ in range(20)]
            for block in mine:
                self.lib.give(block)
            self.lib.churn(200)
            one.snapshot()
        self.stress.check(one.stats.live_blocks >= 0, str(one.stats))
        self.stress.count(440)

    def scope_verifies(self) -> None:
        is_on = LeakTracker.self_stats["hooks_attached"]
        with LeakTracker.scope() as one:
            block = self.plain.take(12345)
            found = [b for b in one.snapshot() if b.size == 12345]
            line = here() - 2
            assert len(found) <= is_on
            assert lines(found) == [line] * len(found), found
            self.plain.give(block)
            assert not [b for b in one.snapshot() if b.size == 12345]
        self.stress.count(2)

    def keep(self) -> None:
        self.kept.append(self.plain.take(self.chance.randrange(1, 5000)))
        self.stress.count()

    def give(self) -> None:
        while self.kept:
            self.plain.give(self.kept.pop())

    def snapshot(self) -> None:
        for block in LeakTracker.snapshot()[:20]:
            str(block)

    def pause(self) -> None:
        with LeakTracker.pause():
            self.lib.churn(100)

    def load(self) -> None:
        ffi = cffi.FFI()
        ffi.cdef("void *take(size_t); void give(void *);")
        other = ffi.dlopen(path("tables"))
        other.give(other.take(99))
        ffi.dlclose(other)
        self.stress.count(2)

    def fork(self) -> None:
        self.stress.fork(self.child)

    def child(self) -> None:
        self.plain.give(self.plain.take(10))
        LeakTracker.snapshot()
        with LeakTracker.attach([self.plain]):
            block = self.plain.take(54321)
            assert 54321 in sizes(LeakTracker.snapshot())
            self.plain.give(block)
        LeakTracker.detach()
        assert LeakTracker.self_stats["hooks_slots"] == 0
        assert len(LeakTracker.snapshot(include_inherited=True)) == 0
        assert core.lib.flk_tracker_check()

    def step(self) -> None:
        steps = (
            *(self.attach, self.attach, self.detach, self.detach_all),
            *(self.scope, self.scope_verifies, self.keep, self.keep, self.give),
            *(self.snapshot, self.pause, self.load, self.fork),
        )
        self.chance.choice(steps)()
        self.stress.count()

    def finish(self) -> None:
        """Nothing is left; what comes is recorded as ever."""
        self.give()
        self.detach_all()
        LeakTracker.reset()  # what lived then, in calls of other threads
        with LeakTracker.attach([self.plain]):
            block = self.plain.take(10)
            line = here() - 1
            found = LeakTracker.snapshot()
            assert (sizes(found), lines(found)) == ([10], [line]), found
            self.plain.give(block)
            LeakTracker.verify_no_leaks()
        figures = LeakTracker.self_stats
        assert figures["hooks_slots"] == figures["hooks_failed_words"] == 0
        assert figures["entries"] == 0, figures
        assert LeakTracker.misuses() == (), LeakTracker.misuses()[0]
        self.stress.check_books(0)


def main(stress: Stress) -> None:
    work = Work(stress)
    LeakTracker.attach([work.lib]).detach()  # imports what it needs

    def python() -> None:
        while stress.going():
            with LeakTracker.scope() as one:
                work.lib.churn(3000)
                block = work.lib.take(24)
                one.snapshot()
                work.lib.give(block)
            stress.count(6002)

    # C threads that know nothing of Python, or Python's that call C.
    in_c = stress.seed % 2
    if in_c:
        work.lib.start_endless(2)
    stress.beside(work.step, *[python] * (2 - 2 * in_c))
    if in_c:
        work.lib.stop_endless(2)
    work.finish()


if __name__ == "__main__":
    os.environ.setdefault("LIBC_FATAL_STDERR_", "1")
    with contextlib.suppress(KeyboardInterrupt):
        run(main)
