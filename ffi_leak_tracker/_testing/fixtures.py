"""Scopes for fixtures that outlive a test.

What such a fixture allocates belongs to the fixture, not to the test that is
set up or torn down at the time. It is judged when the fixture has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffi_leak_tracker._testing.scopes import open_scope

if TYPE_CHECKING:
    from typing import Any

    import pytest

    from ffi_leak_tracker._tracking.scopes import Scope


class WideFixtures:
    """The scopes of the fixtures of class, module, package and session.

    Invariant: a fixture has at most one open scope, that of its setup or of
    its teardown.
    """

    def __init__(self) -> None:
        self._open: dict[object, Scope] = {}
        self._closed: dict[object, list[Scope]] = {}
        self._ended: list[tuple[str, list[Scope]]] = []

    def begin(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Open a scope around the setup or the teardown of a fixture."""
        self.end(fixturedef)
        self._open[fixturedef] = open_scope(name_of(fixturedef), isolated=True)

    def end(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Close the open scope of a fixture, if there is one."""
        scope = self._open.pop(fixturedef, None)
        if scope is not None:
            scope.__exit__(None, None, None)
            self._closed.setdefault(fixturedef, []).append(scope)

    def gone(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Note that a fixture was torn down."""
        self.end(fixturedef)
        scopes = self._closed.pop(fixturedef, None)
        if scopes:
            self._ended.append((name_of(fixturedef), scopes))

    def take_ended(self) -> list[tuple[str, list[Scope]]]:
        """Return the fixtures that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended


#: What pytest calls the fixtures of setup functions, and what they are called.
_FUNCTIONS = {
    "_xunit_setup_module_fixture_": "setup_module",
    "_xunit_setup_class_fixture_": "setup_class",
    "_unittest_setUpClass_fixture_": "setUpClass",
}


def name_of(fixturedef: pytest.FixtureDef[Any]) -> str:
    """Return a fixture as reports name it."""
    name = fixturedef.argname
    for prefix, function in _FUNCTIONS.items():
        if name.startswith(prefix):
            return f"{function} of {name[len(prefix) :]}"
    return f"{fixturedef.scope} fixture `{name}`"
