"""Types of the module that cffi compiles from csrc/api/api.h."""

from typing import Any, TypeAlias

CData: TypeAlias = Any
CType: TypeAlias = Any
_CData: TypeAlias = Any  # in the class below CData is an attribute
_CType: TypeAlias = Any
callables: Any  # set by flk_callables_install
objects: Any  # set by flk_object_views_install
claim: Any  # set by flk_callables_add_claim

class _FFI:
    CData: type[Any]
    CType: type[Any]
    NULL: Any
    error: type[Exception]
    errno: int
    def new(self, cdecl: str | _CType, init: Any = None) -> _CData: ...
    def new_allocator(
        self,
        alloc: Any = None,
        free: Any = None,
        should_clear_after_alloc: bool = True,
    ) -> Any: ...
    def cast(self, cdecl: str | _CType, source: Any) -> _CData: ...
    def typeof(self, cdecl: str | _CData) -> _CType: ...
    def sizeof(self, cdecl: str | _CType | _CData) -> int: ...
    def string(self, cdata: _CData, maxlen: int = -1) -> bytes: ...
    def buffer(self, cdata: _CData, size: int = -1) -> Any: ...
    def addressof(self, cdata: Any, *fields: str | int) -> _CData: ...
    def gc(self, cdata: _CData, destructor: Any, size: int = 0) -> _CData: ...
    def from_buffer(self, *arguments: Any) -> _CData: ...

class _Lib:
    def __getattr__(self, name: str) -> Any: ...

ffi: _FFI
lib: _Lib
