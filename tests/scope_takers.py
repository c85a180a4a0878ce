"""The ways to take a block, for tests of scopes in child processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import c_library
import cffi

from ffi_leak_tracker import LeakTracker, diagnostic_malloc
from ffi_leak_tracker._seam import core_api as core


class Taker:
    """Takes blocks in one way, in this thread and in threads of C."""

    def __init__(self, lib: Any, name: str, pointer: Any, call: Any) -> None:
        self.name, self.lib = name, lib
        self._pointer, self._call = pointer, call
        self.kept: list[Any] = []

    def __call__(self, size: int) -> int:
        """Take a block, which stays."""
        self.kept.append(self._call(size))
        return size

    def in_c_thread(self, size: int) -> int:
        """Take a block in a thread that C code starts."""
        self.kept.append(self.lib.take_there(self._pointer, size))
        return size

    def in_thread(self, size: int) -> int:
        """Take a block in a new thread of Python."""
        thread = threading.Thread(target=self, args=(size,))
        thread.start()
        thread.join()
        return size


def takers() -> list[Taker]:
    """Return one for each: own allocator, hooked malloc, C callback."""
    ffi, lib = cffi.FFI(), c_library.opened("pointers")

    @ffi.callback("void *(size_t)")
    def from_c(size: int) -> Any:
        return ffi.cast("void *", diagnostic_malloc("char", size))

    address = int(core.ffi.cast("uintptr_t", core.lib.flk_c_malloc))
    callback = ffi.cast("void *(*)(size_t)", address)
    return [
        Taker(lib, "own", from_c, lambda n: diagnostic_malloc("char", n)),
        Taker(lib, "hook", lib.take_plainly, lib.take_plainly),
        Taker(lib, "callback", callback, lambda n: lib.take_here(callback, n)),
    ]


@contextmanager
def taken_by(taker: Taker) -> Iterator[None]:
    """Record what a taker takes; forget it at the end."""
    try:
        if taker.name == "hook":
            with LeakTracker.attach([taker.lib]):
                yield
        else:
            LeakTracker.enable()
            yield
            LeakTracker.disable()
    finally:
        LeakTracker.reset()


def each(test: Callable[[Taker], None]) -> None:
    """Run a test with each way to take a block."""
    for taker in takers():
        try:
            with taken_by(taker):
                test(taker)
        except BaseException:
            print(f"with {taker.name}:")
            raise
        assert core.lib.flk_tracker_check()
