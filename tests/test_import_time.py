"""What the import of the tracker and the allocators loads."""

from __future__ import annotations

import inspect
import os
import typing
from typing import Any

import children
import pytest
from conftest import IS_PYPY

from ffi_leak_tracker import (
    AllocationStats,
    Allocator,
    LeakFilter,
    LeakTracker,
    Scope,
)
from ffi_leak_tracker._base import package
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import owners

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


#: Of this package. Each takes about a tenth of a millisecond to be found. The
#: twins in Python of the C callables need more.
MODULES_MAX = 30 if core.callables is None else 20


@pytest.mark.skipif(IS_PYPY, reason="PyPy needs the Python twins as well")
def test_import_loads_few_modules() -> None:
    """Those that no allocation needs are loaded when they are used."""
    code = f"""
import sys
sys.path.insert(0, {children.PACKAGE_PARENT!r})
from ffi_leak_tracker import LeakTracker, adaptive_calloc
adaptive_calloc.free(adaptive_calloc("int32_t", 4))
print(*(name for name in sys.modules if name.startswith("ffi_leak_tracker")))
LeakTracker.verify_no_leaks()
assert "ffi_leak_tracker._tracking.detached" in sys.modules
LeakTracker.enable()  # all, so that no signal handler meets half a module
from ffi_leak_tracker._base.package import _waiting
assert not _waiting
"""
    done = children.run(code)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "ffi_leak_tracker._tracking.tracker" in loaded
    assert len(loaded) <= MODULES_MAX, loaded


def test_attach_loads_what_reports_need() -> None:
    """So that imports are not recorded, where the interpreter is."""
    code = f"""
import sys
sys.path.insert(0, {children.PACKAGE_PARENT!r})
from ffi_leak_tracker import AttachError, LeakTracker
from ffi_leak_tracker._base.package import _waiting
try:
    LeakTracker.attach()
except AttachError:
    pass
assert not _waiting, _waiting
loaded = set(sys.modules)
with LeakTracker.scope() as scope:
    LeakTracker.pause().resume()
    scope.stats, scope.has_leaks, scope.snapshot(), scope.uncertain
    scope.verify_no_leaks()
ours = [n for n in set(sys.modules) - loaded if n.startswith("ffi_leak_tr")]
print(ours)
"""
    done = children.run(code, "-W", "ignore")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_module_is_imported_when_an_attribute_is_read() -> None:
    """Its variable is the module then; others are set in the module."""
    variables: dict[str, Any] = {}
    package.lazy(variables, "_tracking", "owners", same="owners")
    stands_for = variables["owners"]
    assert stands_for is not owners
    assert owners.PLAIN is stands_for.PLAIN
    assert variables["owners"] is owners
    assert variables["same"] is not owners
    variables["same"].gc_is_used = owners.gc_is_used
    assert variables["same"] is owners
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stands_for.nothing
    package._waiting[:] = [
        one for one in package._waiting if one._variables is not variables
    ]


def test_threads_use_what_is_not_loaded_yet() -> None:
    """Each waits until the thread that imports a module has done so."""
    code = f"""
import sys, threading
sys.path.insert(0, {children.PACKAGE_PARENT!r})
from ffi_leak_tracker import LeakTracker, adaptive_calloc
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def use():
    barrier.wait()
    with LeakTracker.scope() as scope:
        block = adaptive_calloc("int", 3)
        assert len(scope.snapshot()) == 1
        assert len(LeakTracker.snapshot()) > 0
        adaptive_calloc.free(block)
        scope.verify_no_leaks()
    done.append(1)
done = []
threads = [threading.Thread(target=use) for _ in range(8)]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(len(done))
"""
    done = children.run(code)
    assert (done.stdout, done.stderr) == ("8\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_uses_what_another_thread_was_loading() -> None:
    """What a thread is importing when another forks is there in the child."""
    code = f"""
import os, sys, threading, warnings
sys.path.insert(0, {children.PACKAGE_PARENT!r})
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
from ffi_leak_tracker import LeakTracker, adaptive_calloc
sys.setswitchinterval(1e-6)
def use():
    started.set()
    with LeakTracker.scope() as scope:
        scope.snapshot()
started = threading.Event()
thread = threading.Thread(target=use)
thread.start()
started.wait()
children = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        LeakTracker.enable()
        block = adaptive_calloc("int")
        os._exit(0 if len(LeakTracker.snapshot()) == 1 else 3)
    children.append(child)
thread.join()
print({{os.waitpid(child, 0)[1] for child in children}})
"""
    for _ in range(3):
        done = children.run(code, timeout=60)
        assert (done.stdout, done.stderr) == ("{0}\n", "")


def test_types_of_methods_can_be_looked_up() -> None:
    """Also where the class is in a module that is loaded later."""
    for method, expected in (
        (Scope.filter.fget, LeakFilter),
        (type(LeakTracker).filter.fget, LeakFilter),
        (type(LeakTracker).global_filter.fget, LeakFilter),
    ):
        assert expected is typing.get_type_hints(method)["return"]
    found = typing.get_type_hints(Allocator.c_functions.fget)
    assert "CFunctions" == found["return"].__name__
