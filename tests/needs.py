"""What tests need of the machine.

Apart from ``c_library``, which children import: they do without pytest.
"""

from __future__ import annotations

import sys

import pytest
from c_library import COMPILER

needs_hooks = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(
        sys.implementation.name == "pypy", reason="frames of CPython"
    ),
]
