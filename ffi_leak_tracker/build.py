"""Builds: C text for modules that report the objects of their libraries."""

from ffi_leak_tracker._base.include import get_include
from ffi_leak_tracker._handles.shim import shim

__all__ = ["get_include", "shim"]
