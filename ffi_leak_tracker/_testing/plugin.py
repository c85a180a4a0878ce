"""The options, markers and fixture of the pytest plugin."""

from __future__ import annotations

from contextlib import suppress

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ffi_leak_tracker._testing.checker import Checker
    from ffi_leak_tracker._tracking.scopes import Scope

_FIXTURE = "leak_tracker"
_BUDGET = "leak_budget"
_NAMES = ("ffi_leak_tracker", "ffi_leak_tracker.pytest_plugin")
_MARKERS = (
    "no_leak_check(reason=None): the test is not checked by --leaks",
    "leak_filter(*filters, filter=None): native blocks that a filter ignores "
    "are no leaks of the test",
    "leak_budget(blocks=None, bytes=None, peak=None): most blocks and bytes "
    "that the test may allocate natively, and most bytes live at once",
)
_CHECKER: pytest.StashKey[Checker] = pytest.StashKey()


# --- options ------------------------------------------------------------
def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Add the options; register a second name of the plugin as well."""
    for name in _NAMES:
        if not pluginmanager.has_plugin(name):
            pluginmanager.register(_Alias(), name)
    group = parser.getgroup("leaks", "native memory leaks (ffi_leak_tracker)")
    group.addoption(
        "--leaks",
        action="store_true",
        dest="ffi_leaks",
        default=None,
        help="Fail tests that leak native blocks.",
    )
    group.addoption(
        "--no-leaks",
        action="store_false",
        dest="ffi_leaks",
        help="Do not, whatever the ini option leaks says.",
    )
    group.addoption(
        "--leaks-depth",
        metavar="N",
        dest="ffi_leaks_depth",
        default=None,
        help="Python frames kept for each block, 0 to 64 (16 if not given).",
    )
    parser.addini("leaks", "As --leaks.", type="bool", default=False)
    parser.addini("leaks_depth", "As --leaks-depth.", default="")


class _Alias:
    """Stands for the plugin under its other name.

    pytest would otherwise load it twice, with ``-p ffi_leak_tracker``.
    """


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and with --leaks the hooks that check."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if _checks_all(config):
        checker_of(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Register the hooks if a test uses the fixture or a budget."""
    if _CHECKER in session.config.stash:
        return
    for item in session.items:
        if _FIXTURE in getattr(item, "fixturenames", ()) or (
            _BUDGET in item.keywords and item.get_closest_marker(_BUDGET)
        ):
            checker_of(session.config)
            return


def _checks_all(config: pytest.Config) -> bool:
    given = config.getoption("ffi_leaks")
    return bool(config.getini("leaks") if given is None else given)


def _depth(config: pytest.Config) -> int | None:
    text = config.getoption("ffi_leaks_depth") or config.getini("leaks_depth")
    if not text:
        return None
    with suppress(ValueError):
        if 0 <= int(text) <= 64:
            return int(text)
    raise pytest.UsageError(
        f"--leaks-depth must be a number from 0 to 64, not {text!r}"
    )


# --- the fixture --------------------------------------------------------
@pytest.fixture
def leak_tracker(request: pytest.FixtureRequest) -> Iterator[Scope]:
    """An open ``Scope``; blocks that stay live in it fail the test.

    It is checked after all fixtures of the test are torn down. Blocks of all
    threads and tasks count. ``leak_tracker.stats`` and
    ``leak_tracker.snapshot()`` show the blocks so far;
    ``leak_tracker.reset()`` removes their records.
    """
    scope = checker_of(request.config).scope_of_fixture(request.node)
    try:
        yield scope
    finally:
        scope.__exit__(None, None, None)


def checker_of(config: pytest.Config) -> Checker:
    """Return the hooks of a test run; the first call registers them.

    Raises: pytest.UsageError if the compiled core is missing.
    """
    checker = config.stash.get(_CHECKER, None)
    if checker is None:
        try:
            from ffi_leak_tracker._testing.checker import Checker

            checker = Checker(_checks_all(config), _depth(config))
        except ImportError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_CHECKER] = checker
        config.pluginmanager.register(checker, "ffi_leak_tracker_checker")
    return checker
