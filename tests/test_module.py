"""The compiled module, as the loader sees it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from conftest import IS_PYPY

from ffi_leak_tracker import _core


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
@pytest.mark.skipif(IS_PYPY, reason="another module loader")
def test_thread_locals_are_initial_exec() -> None:
    """Other models allocate at a thread's first touch, inside a hook."""
    done = subprocess.run(
        ["readelf", "-rW", _core.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(re.findall(r"R_\w*?(TPOFF\w*|DTP\w*|TLS\w*)", done.stdout))
    assert found <= {"TPOFF64", "TLS_TPREL", "TLS_TPREL64"}
