"""Make, share, pass on and free handles in threads; every count is exact."""

from __future__ import annotations

import collections
import gc
import sys
import threading
from typing import Any

from _common import LeakTracker, Stress, core, run
from handle_library import SPEC, opened

from ffi_leak_tracker.handles import instrument

THREADS = 4
SHARED = 8  # objects that all threads refer to


class Work:
    """What one thread does with an instrumented library."""

    def __init__(self, stress: Stress, ffi: Any, lib: Any) -> None:
        self.stress, self.ffi, self.lib = stress, ffi, lib
        self.passed: collections.deque[Any] = collections.deque()
        self.shared = [lib.tree_new() for _ in range(SHARED)]
        for one in self.shared:
            lib.tree_ref(one)

    def own(self) -> None:
        one = self.lib.tree_new()
        self.lib.tree_free(one)

    def pass_on(self) -> None:
        self.passed.append(self.lib.tree_new())

    def take(self) -> None:
        try:
            one = self.passed.popleft()
        except IndexError:
            return
        self.lib.tree_free(one)

    def refer(self, which: int) -> None:
        self.lib.tree_ref(self.shared[which])
        self.lib.tree_unref(self.shared[which])

    def out(self) -> None:
        box = self.ffi.new("struct tree **")
        if self.lib.tree_open(box, 3) == 0:
            self.lib.tree_close(box[0])

    def collected(self) -> None:
        one = self.ffi.gc(self.lib.tree_new(), self.lib.tree_free)
        two = self.ffi.new("int[]", 4)
        three = self.ffi.new_handle(self)
        del one, two, three

    def __call__(self) -> None:
        chance = self.stress.random()
        steps = (self.own, self.pass_on, self.take, self.out, self.collected)
        while self.stress.going():
            for _ in range(20):
                chance.choice(steps)()
                self.refer(chance.randrange(SHARED))
            self.stress.count(20)

    def end(self) -> None:
        while self.passed:
            self.take()
        for one in self.shared:
            self.lib.tree_unref(one)
            self.lib.tree_free(one)
        gc.collect()


def main(stress: Stress) -> None:
    """Nothing lives at the end, and only the shared objects before."""
    sys.setswitchinterval(1e-5)
    ffi, lib = instrument(*opened(), SPEC)
    LeakTracker.enable()
    work = Work(stress, ffi, lib)

    def look() -> None:
        LeakTracker.snapshot()
        LeakTracker.types()
        core.mark()
        threading.Event().wait(0.002)

    stress.beside(look, *[work] * THREADS)
    waiting = len(work.passed)
    gc.collect()
    stress.check_books(SHARED + waiting)
    work.end()
    stress.check_books(0)


run(main)
