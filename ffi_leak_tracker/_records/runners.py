"""The frames of a call path that belong to its program.

The outermost frames of a test are those of pytest or unittest, and an import
runs through ``<frozen importlib...>``. They say nothing about a leak.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffi_leak_tracker._records.allocation import Frame

#: Functions of pytest and unittest that call the code of a test.
_RUNNERS = {
    "_callCleanup",
    "_callSetUp",
    "_callTearDown",
    "_callTestMethod",
    "_teardown_yield_fixture",
    "call_fixture_func",
    "finish",
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "runtest",
}
_PACKAGES = {"_pytest", "unittest"}


def own_frames(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Return the frames inside of the one that calls the test.

    Outside of a test, all of them.
    """
    for i, one in enumerate(frames):
        if _calls_tests(one):
            return frames[:i]
    return frames


def _calls_tests(frame: Frame) -> bool:
    if frame.function.rpartition(".")[2] not in _RUNNERS:
        return False
    folder = frame.filename.replace("\\", "/").split("/")[-2:-1]
    return bool(folder) and folder[0] in _PACKAGES


def is_importer(frame: Frame) -> bool:
    """Return whether a frame is one of the import system."""
    # PyPy writes "<builtin>/frozen importlib._bootstrap".
    return frame.filename.startswith(
        ("<frozen importlib", "<builtin>/frozen importlib")
    )


def without_importers(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames that are not those of the import system."""
    return [one for one in frames if not is_importer(one)]
