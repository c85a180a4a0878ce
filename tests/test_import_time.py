"""What the import of the tracker and the allocators loads."""

from __future__ import annotations

import inspect

import children
import pytest
from conftest import IS_PYPY

from ffi_leak_tracker import AllocationStats
from ffi_leak_tracker._base.record import Record, field

#: Modules of the standard library that take a millisecond or more to load.
SLOW = (
    "collections",
    "contextlib",
    "ctypes",
    "dataclasses",
    "enum",
    "functools",
    "importlib",
    "inspect",
    "json",
    "logging",
    "re",
    "subprocess",
    "tempfile",
    "threading",
    "types",
    "typing",
    "warnings",
)


@pytest.mark.skipif(IS_PYPY, reason="PyPy loads most of these by itself")
def test_import_loads_no_slow_module() -> None:
    """They are loaded by what needs them."""
    code = f"""
import sys
sys.path.insert(0, {children.PACKAGE_PARENT!r})
before = set(sys.modules)
from ffi_leak_tracker import LeakTracker, adaptive_calloc
print(sorted((set(sys.modules) - before) & set({SLOW!r})))
"""
    # Without site: a checkout that is installed to be edited loads some there.
    paths = [path for path in __import__("sys").path if path]
    code = f"import sys; sys.path[:] = {paths!r}\n{code}"
    done = children.run(code, "-S", "-I")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


class _Size(Record):
    width: int = field("Columns.")
    height: int = field("Rows.", default=1)


class _Larger(_Size):
    pass


def test_init_of_a_record_is_made_when_used() -> None:
    """By a subclass, too; signature and help have the arguments."""
    assert 4 == _Larger(3, height=4).height
    assert (3, 1) == (_Size(3).width, _Size(3).height)
    assert "(width: 'int', height: 'int' = 1)" == str(inspect.signature(_Size))
    assert "_Size.__init__" == _Larger.__init__.__qualname__
    with pytest.raises(TypeError, match="missing 1 required"):
        _Size()
    assert "allocations" in inspect.signature(AllocationStats).parameters
