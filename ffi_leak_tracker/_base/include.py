"""Where the C header for code of others lies."""

from __future__ import annotations

from ffi_leak_tracker._base.package import PACKAGE_FOLDER


def get_include() -> str:
    """Return the folder of ``ffi_leak_tracker.h``, for ``include_dirs``.

    C code that includes the header records objects of its own. It is not
    linked to this package, and does nothing while the package is not imported.

    >>> import os
    >>> from ffi_leak_tracker import get_include
    >>> os.listdir(get_include())
    ['ffi_leak_tracker.h']
    """
    return PACKAGE_FOLDER + "include"
