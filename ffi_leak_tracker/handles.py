"""Handles: the objects of any cffi library, by type, owner and destructor."""

from ffi_leak_tracker._handles.attach_module import (
    ModuleHandles,
    attach_module,
    attached_modules,
)
from ffi_leak_tracker._handles.instrument import instrument
from ffi_leak_tracker._handles.spec import Spec
from ffi_leak_tracker._handles.spec_files import as_spec
from ffi_leak_tracker._handles.suggest import (
    Suggestion,
    Suggestions,
    suggest,
)
from ffi_leak_tracker._handles.vocabulary import (
    Borrowed,
    Chain,
    Consumes,
    Decref,
    Incref,
    Out,
    Owned,
    SpecError,
)

__all__ = [
    "Borrowed",
    "Chain",
    "Consumes",
    "Decref",
    "Incref",
    "ModuleHandles",
    "Out",
    "Owned",
    "Spec",
    "SpecError",
    "Suggestion",
    "Suggestions",
    "as_spec",
    "attach_module",
    "attached_modules",
    "instrument",
    "suggest",
]
