"""The folder of this package, and modules that are imported when used.

Most programs use few of the modules that the tracker may need, and each takes
a tenth of a millisecond or more to load.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ROOM = os.path.dirname(os.path.abspath(__file__))
#: The folder of the package, with a separator at its end. A frame whose file
#: name begins with it is a frame of the package itself.
PACKAGE_FOLDER = os.path.join(os.path.dirname(_ROOM), "")
_PACKAGE = __name__.partition(".")[0]

#: Functions of later rooms, by what they are for. Earlier rooms find them here
#: when they are loaded last.
provided: dict[str, Callable[[], Any]] = {}

_waiting: list[_Lazy] = []


class _Lazy:
    """Stands for a module until an attribute of it is read."""

    __slots__ = ("_module", "_variables")
    _module: str
    _variables: dict[str, Any]

    def __init__(self, module: str, variables: dict[str, Any]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_variables", variables)

    def _load(self) -> Any:
        """Import the module, and give it to the variable of this object.

        ``sys.modules`` may have one that another thread is importing: the
        import statement waits for it.
        """
        __import__(self._module)
        module = sys.modules[self._module]
        for key, value in list(self._variables.items()):
            if value is self:
                self._variables[key] = module
        return module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._load(), name, value)


def lazy(
    variables: dict[str, Any], room: str, *names: str, **renamed: str
) -> None:
    """Set variables to modules that are imported when they are used.

    Args:
        variables: ``globals()`` of the module that uses them.
        room: the room of the modules.
        names: of modules, and of variables.
        renamed: names of modules, by those of variables.
    """
    for variable, name in {**dict(zip(names, names)), **renamed}.items():  # noqa: B905
        one = _Lazy(f"{_PACKAGE}.{room}.{name}", variables)
        variables[variable] = one
        _waiting.append(one)


def load_all() -> None:
    """Import all of them now, and what these use.

    Before blocks of the interpreter are recorded: an import is nothing that
    the program allocates.
    """
    while _waiting:
        one = _waiting[-1]
        one._load()
        # Only now: another thread that calls this returns when all are there.
        if one in _waiting:
            _waiting.remove(one)
