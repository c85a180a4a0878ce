"""The options, markers and fixture of the pytest plugin."""

from __future__ import annotations

import sys
from os.path import basename

import pytest

from ffi_leak_tracker._testing import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ffi_leak_tracker._testing.checker import Checker
    from ffi_leak_tracker._tracking.scopes import Scope

_FIXTURE = "leak_tracker"
_NAMES = ("ffi_leak_tracker", "ffi_leak_tracker.pytest_plugin")
_MARKERS = {
    "no_leak_check": "(reason=None): the test is not checked by --leaks",
    "allow_leaks": "(reason=None): the same",
    "leaks": "(max_blocks=0, max_bytes=0, ignore=None, attach=None, "
    "repeat=None, held=None): how --leaks checks the test",
    "leak_filter": "(*filters, filter=None): native blocks that a filter "
    "ignores are no leaks of the test",
    "leak_budget": "(blocks=None, bytes=None, peak=None): most blocks and "
    "bytes that the test may allocate natively, and most bytes live at once",
}
_CHECKER: pytest.StashKey[Checker] = pytest.StashKey()


# --- options ------------------------------------------------------------
def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Add the options; register a second name of the plugin as well."""
    for name in _NAMES:
        if not pluginmanager.has_plugin(name):
            pluginmanager.register(_Alias(), name)
    options.add_ini(parser)
    if _is_late(pluginmanager):
        _add_options(parser, pluginmanager)


def _is_late(pluginmanager: pytest.PytestPluginManager) -> bool:
    """Return whether a conftest.py loads the plugin: all others are loaded."""
    plugins = [plugin for _, plugin in pluginmanager.list_name_plugin()]
    files = [str(getattr(one, "__file__", "")) for one in plugins]
    return any(basename(file) == "conftest.py" for file in files)


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Add the options, after all other plugins have added theirs."""
    lost = _add_options(parser, early_config.pluginmanager)
    options.name_the_mode(args, lost)


def _add_options(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> dict[str, str]:
    lost = options.add_options(parser)
    if lost:
        pluginmanager.register(_Note(lost), "ffi_leak_tracker_note")
    return lost


class _Note:
    """Says under which names options are to be had."""

    def __init__(self, lost: dict[str, str]) -> None:
        self._lost = lost

    def pytest_report_header(self) -> str:
        """Return one line."""
        pairs = [
            f"{own} in place of {name}" for name, own in self._lost.items()
        ]
        return f"leaks: another plugin has taken names: {', '.join(pairs)}"


class _Alias:
    """Stands for the plugin under its other name.

    pytest would otherwise load it twice, with ``-p ffi_leak_tracker``.
    """


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the rules of ``--leaks-tables=show``, and run nothing."""
    if not options.shows_tables(config):
        return None
    from ffi_leak_tracker._testing import tables

    sys.stdout.write(tables.text())
    return 0


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and with --leaks the hooks that check."""
    for marker, text in _MARKERS.items():
        config.addinivalue_line("markers", marker + text)
    settings = options.Settings(config)
    if settings.checks_all:
        checker_of(config, settings)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check the markers; register the hooks if a test needs them."""
    marked = [
        item
        for item in session.items
        if any(name in item.keywords for name in _MARKERS)
    ]
    if marked:
        from ffi_leak_tracker._testing import rules

        for item in marked:
            _check(item, rules.check)
    if _CHECKER in session.config.stash:
        return
    if any(item.get_closest_marker("leak_budget") for item in marked) or any(
        _FIXTURE in getattr(item, "fixturenames", ()) for item in session.items
    ):
        checker_of(session.config)


def _check(item: pytest.Item, check: Callable[[pytest.Item], None]) -> None:
    """Refuse markers; in a worker of pytest-xdist the test fails later."""
    try:
        check(item)
    except pytest.UsageError:
        if not hasattr(item.config, "workerinput"):
            raise


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


def checker_of(
    config: pytest.Config, settings: options.Settings | None = None
) -> Checker:
    """Return the hooks of a test run; the first call registers them.

    Raises: pytest.UsageError if the compiled core is missing.
    """
    checker = config.stash.get(_CHECKER, None)
    if checker is None:
        try:
            from ffi_leak_tracker._testing.checker import Checker

            checker = Checker(settings or options.Settings(config))
        except ImportError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_CHECKER] = checker
        config.pluginmanager.register(checker, "ffi_leak_tracker_checker")
    return checker
