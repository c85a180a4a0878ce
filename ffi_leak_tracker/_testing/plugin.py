"""The options, markers and fixture of the pytest plugin."""

from __future__ import annotations

from contextlib import suppress
from os.path import basename

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ffi_leak_tracker._records.known import Known
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
#: The options by their first names, without the dashes.
_OPTIONS: dict[str, dict[str, Any]] = {
    "leaks": {
        "action": "store_true",
        "dest": "ffi_leaks",
        "default": None,
        "help": "Fail tests that leak native blocks.",
    },
    "no-leaks": {
        "action": "store_false",
        "dest": "ffi_leaks",
        "help": "Do not, whatever the ini option leaks says.",
    },
    "leaks-depth": {
        "metavar": "N",
        "dest": "ffi_leaks_depth",
        "default": None,
        "help": "Python frames kept for each block, 0 to 64 (16 if not given).",
    },
    "leaks-suppressions": {
        "metavar": "FILE",
        "dest": "ffi_leaks_suppressions",
        "action": "append",
        "default": [],
        "help": "Leave out the leaks that a rule of FILE fits, as "
        "leak:PATTERN (may be given more than once).",
    },
    "leaks-baseline": {
        "metavar": "FILE",
        "dest": "ffi_leaks_baseline",
        "default": None,
        "help": "Leave out the leaks at the places that FILE lists.",
    },
    "leaks-write-baseline": {
        "metavar": "FILE",
        "dest": "ffi_leaks_write_baseline",
        "default": None,
        "help": "Write the places of all leaks to FILE, for --leaks-baseline, "
        "and do not fail for them.",
    },
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
    parser.addini("leaks", "As --leaks.", type="bool", default=False)
    parser.addini("leaks_depth", "As --leaks-depth.", default="")
    parser.addini(
        "leaks_suppressions", "As --leaks-suppressions.", type="paths"
    )
    parser.addini("leaks_baseline", "As --leaks-baseline.", type="paths")
    if _is_late(pluginmanager):
        _add_options(parser, pluginmanager)


def _is_late(pluginmanager: pytest.PytestPluginManager) -> bool:
    """Return whether a conftest.py loads the plugin: all others are loaded."""
    plugins = [plugin for _, plugin in pluginmanager.list_name_plugin()]
    files = [str(getattr(one, "__file__", "")) for one in plugins]
    return any(basename(file) == "conftest.py" for file in files)


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> None:
    """Add the options, after all other plugins have added theirs."""
    _add_options(parser, early_config.pluginmanager)


def _add_options(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Add each option under two names; under one if the other is taken."""
    taken = _names_taken(parser)
    group = parser.getgroup("ffi-leaks", "native memory leaks")
    lost = {}
    for name, settings in _OPTIONS.items():
        short, own = f"--{name}", f"--{_own_name(name)}"
        names = (own,) if short in taken else (short, own)
        group.addoption(*names, **settings)
        if short in taken:
            lost[short] = own
    if lost:
        pluginmanager.register(_Note(lost), "ffi_leak_tracker_note")


def _own_name(name: str) -> str:
    """Return the second name of an option, which no other plugin has."""
    return name.replace("leaks", "ffi-leaks", 1)


def _names_taken(parser: pytest.Parser) -> set[str]:
    """Return the names of all options so far.

    pytest refuses a name that is taken only when it is too late, or only
    within one group.
    """
    groups = [*getattr(parser, "_groups", ()), parser._anonymous]
    options = [option for group in groups for option in group.options]
    return {name for option in options for name in option.names()}


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
    given = config.getoption("ffi_leaks", None)
    return bool(config.getini("leaks") if given is None else given)


def _depth(config: pytest.Config) -> int | None:
    given = config.getoption("ffi_leaks_depth", None)
    text = given or config.getini("leaks_depth")
    if not text:
        return None
    with suppress(ValueError):
        if 0 <= int(text) <= 64:
            return int(text)
    raise pytest.UsageError(
        f"--leaks-depth must be a number from 0 to 64, not {text!r}"
    )


def _known(config: pytest.Config) -> Known:
    """Return the leaks that fail no test."""
    from ffi_leak_tracker._records.exceptions import FilterFileError
    from ffi_leak_tracker._records.known import Known

    given = config.getoption
    baseline = given("ffi_leaks_baseline", None)
    if baseline is None:
        paths = config.getini("leaks_baseline")
        baseline = str(paths[0]) if paths else None
    rules = [
        *map(str, config.getini("leaks_suppressions")),
        *given("ffi_leaks_suppressions", []),
    ]
    try:
        return Known(rules, baseline, given("ffi_leaks_write_baseline", None))
    except FilterFileError as error:
        raise pytest.UsageError(str(error)) from error


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

            known = _known(config)
            checker = Checker(_checks_all(config), _depth(config), known)
        except ImportError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_CHECKER] = checker
        config.pluginmanager.register(checker, "ffi_leak_tracker_checker")
    return checker
