"""The options of the pytest plugin, and what they say together.

Each option has two names and an ini setting. ``Settings`` reads them once and
refuses what makes no sense. This module does not import the compiled core.
"""

from __future__ import annotations

import pytest

from ffi_leak_tracker._testing.rounds import AUTO, Rounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.known import Known

#: How far a test is judged: up to lost blocks; also by calling it again; or
#: every block that is left counts.
MODES = ("auto", "fast", "strict")
HELD = ("report", "fail")
#: Whether a test is called again in a forked child.
FORK = ("yes", "no")
#: Whether the tables that libraries make once are set aside.
TABLES = ("yes", "no", "show")
MAX_ROUNDS = 1000


#: The short name of each option, and its arguments.
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "leaks",
        {
            "nargs": "?",
            "const": "",
            "default": None,
            "metavar": "MODE",
            "help": "Fail tests that leak native memory. MODE is auto; fast: "
            "do not call a suspicious test again; or strict: every block that "
            "a test leaves is a leak.",
        },
    ),
    (
        "no-leaks",
        {
            "action": "store_const",
            "const": "no",
            "dest": "ffi_leaks",
            "help": "Do not, whatever the ini option leaks says.",
        },
    ),
    (
        "leaks-depth",
        {
            "metavar": "N",
            "help": "Python frames kept for each block, 0 to 64 (16 if not "
            "given).",
        },
    ),
    (
        "leaks-attach",
        {
            "metavar": "LIB,...",
            "help": "Watch these libraries only (all but the interpreter's if "
            "not given).",
        },
    ),
    (
        "leaks-handles",
        {
            "metavar": "MODULE[:FILE],...",
            "action": "append",
            "default": [],
            "help": "Record the objects of the libraries that these modules "
            "of cffi bind (may be given more than once).",
        },
    ),
    (
        "leaks-own",
        {
            "action": "store_true",
            "default": None,
            "help": "Watch no library, only the allocators of this package.",
        },
    ),
    (
        "leaks-own-threads",
        {
            "action": "store_true",
            "default": None,
            "help": "Count only what the thread of a test, and those that it "
            "started, allocated.",
        },
    ),
    (
        "leaks-repeat",
        {
            "metavar": "WARMUP:ROUNDS",
            "help": "How often a test that leaves memory in use is called "
            "again, to see whether that grows: auto, no, or two numbers.",
        },
    ),
    (
        "leaks-fork",
        {
            "metavar": "YES|NO",
            "help": "Call tests again in a forked child (yes), or in the "
            "process itself (no).",
        },
    ),
    (
        "leaks-held",
        {
            "metavar": "WHAT",
            "help": "What memory is that a test leaves in use, and that does "
            "not grow: report (a line at the end) or fail.",
        },
    ),
    (
        "leaks-tables",
        {
            "metavar": "WHAT",
            "help": "Set aside the tables that known libraries make once: "
            "yes; no; or show: print the rules and exit.",
        },
    ),
    (
        "leaks-suppressions",
        {
            "metavar": "FILE",
            "action": "append",
            "default": [],
            "help": "Leave out the leaks that a rule of FILE fits, as "
            "leak:PATTERN (may be given more than once).",
        },
    ),
    (
        "leaks-baseline",
        {
            "metavar": "FILE",
            "help": "Leave out the leaks at the places that FILE lists.",
        },
    ),
    (
        "leaks-write-baseline",
        {
            "metavar": "FILE",
            "help": "Write the places of all leaks to FILE, for "
            "--leaks-baseline, and do not fail for them.",
        },
    ),
    (
        "leaks-json",
        {
            "metavar": "FILE",
            "help": "Write what each test left behind to a file, as JSON.",
        },
    ),
)
_INI: tuple[tuple[str, str, str], ...] = (
    ("leaks", "bool", "As --leaks."),
    ("leaks_mode", "string", "As MODE of --leaks."),
    ("leaks_depth", "string", "As --leaks-depth."),
    ("leaks_attach", "args", "As --leaks-attach."),
    ("leaks_handles", "args", "As --leaks-handles."),
    ("leaks_own", "bool", "As --leaks-own."),
    ("leaks_own_threads", "bool", "As --leaks-own-threads."),
    ("leaks_repeat", "string", "As --leaks-repeat."),
    ("leaks_fork", "string", "As --leaks-fork."),
    ("leaks_held", "string", "As --leaks-held."),
    ("leaks_tables", "string", "As --leaks-tables: yes or no."),
    ("leaks_suppressions", "paths", "As --leaks-suppressions."),
    ("leaks_baseline", "paths", "As --leaks-baseline."),
)


def add_ini(parser: pytest.Parser) -> None:
    """Add the ini settings."""
    for name, kind, text in _INI:
        default: object = {"bool": False, "args": [], "paths": []}.get(kind, "")
        parser.addini(name, text, type=kind, default=default)  # type: ignore[arg-type]


def add_options(parser: pytest.Parser) -> dict[str, str]:
    """Add each option under two names; under one if the other is taken.

    Return the names that were taken, and the ones to use in their place.
    """
    taken, lost = _names_taken(parser), {}
    group = parser.getgroup("ffi-leaks", "native memory leaks")
    for name, given in _OPTIONS:
        own = _own_name(name)
        names = [f"--{name}", own]
        if names[0] in taken:
            lost[names.pop(0)] = own
        arguments = dict(given)
        arguments.setdefault("dest", own[2:].replace("-", "_"))
        group.addoption(*names, **arguments)
    return lost


def _own_name(name: str) -> str:
    if name.startswith("no-"):
        return f"--no-ffi-{name[3:]}"
    return f"--ffi-{name}"


def _names_taken(parser: pytest.Parser) -> set[str]:
    """Return the names of all options so far.

    pytest refuses a name that is taken only when it is too late, or only
    within one group.
    """
    groups = [*getattr(parser, "_groups", ()), parser._anonymous]
    options = [option for group in groups for option in group.options]
    return {name for option in options for name in option.names()}


def name_the_mode(args: list[str], lost: dict[str, str]) -> None:
    """Write ``--leaks`` as ``--leaks=``, with the mode of the ini setting.

    The word after it would else be taken for its mode, as in
    ``pytest --leaks tests``.
    """
    names = {"--leaks", "--ffi-leaks"} - set(lost)
    end = args.index("--") if "--" in args else len(args)
    for i, one in enumerate(args[:end]):
        if one in names:
            args[i] = f"{one}="


def shows_tables(config: pytest.Config) -> bool:
    """Return whether the run only prints the rules of known tables."""
    return bool(config.getoption("ffi_leaks_tables", None) == "show")


class Settings:
    """What the options and ini settings of a run say.

    Raises: pytest.UsageError for a value that is not one of an option.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        mode = self._value("leaks")
        self.checks_all = bool(mode) and mode != "no"
        self.mode = _one_of(
            "--leaks", MODES, mode if self.checks_all else "auto"
        )
        self.depth = self._depth()
        self.attach = self._attach()
        self.handles = _parts(
            self._given("leaks-handles") or config.getini("leaks_handles")
        )
        self.own = bool(self._given("leaks-own") or config.getini("leaks_own"))
        self.own_threads = bool(
            self._given("leaks-own-threads")
            or config.getini("leaks_own_threads")
        )
        self.rounds = rounds_of(self._value("leaks-repeat") or "auto")
        self.held = _one_of(
            "--leaks-held", HELD, self._value("leaks-held") or "report"
        )
        self.forks = (
            _one_of("--leaks-fork", FORK, self._value("leaks-fork") or "yes")
            == "yes"
        )
        self.tables = _one_of(
            "--leaks-tables", TABLES, self._value("leaks-tables") or "yes"
        )
        self.json: str | None = self._given("leaks-json")
        self.known = self._known()
        if self.own and self.attach:
            raise pytest.UsageError(
                "--leaks-own watches no library, so --leaks-attach cannot be "
                "given with it"
            )

    def _given(self, name: str) -> Any:
        dest = _own_name(name)[2:].replace("-", "_")
        return self._config.getoption(dest, None)

    def _value(self, name: str) -> str:
        """Return an option, else its ini setting, else ""."""
        given = self._given(name)
        if given or (given is not None and name != "leaks"):
            return str(given)
        if name != "leaks":
            return str(self._config.getini(name.replace("-", "_")))
        on = given is not None or self._config.getini("leaks")
        return str(self._config.getini("leaks_mode") or "auto") if on else ""

    def _known(self) -> Known | None:
        """Return the leaks that fail no test; None if no option names any."""
        rules = [
            *map(str, self._config.getini("leaks_suppressions")),
            *(self._given("leaks-suppressions") or ()),
        ]
        baseline = self._given("leaks-baseline")
        if baseline is None:
            paths = self._config.getini("leaks_baseline")
            baseline = str(paths[0]) if paths else None
        written = self._given("leaks-write-baseline")
        if not (self.checks_all and (rules or baseline or written)):
            return None
        from ffi_leak_tracker._records.exceptions import FilterFileError
        from ffi_leak_tracker._records.known import Known

        try:
            return Known(rules, baseline, written)
        except FilterFileError as error:
            raise pytest.UsageError(str(error)) from None

    def _attach(self) -> tuple[str, ...]:
        given = self._given("leaks-attach")
        names = (
            self._config.getini("leaks_attach")
            if given is None
            else given.split(",")
        )
        return _parts(names)

    def _depth(self) -> int | None:
        text = self._value("leaks-depth")
        if not text:
            return None
        if text.isdecimal() and int(text) <= 64:
            return int(text)
        raise pytest.UsageError(
            f"--leaks-depth must be a number from 0 to 64, not {text!r}"
        )


def _parts(names: list[str]) -> tuple[str, ...]:
    parts = [part for name in names for part in name.split(",")]
    return tuple([part.strip() for part in parts if part.strip()])


def _one_of(option: str, values: tuple[str, ...], given: str) -> str:
    if given in values:
        return given
    raise pytest.UsageError(
        f"{option} must be one of {', '.join(values)}, not {given!r}"
    )


def rounds_of(text: object) -> Rounds | None:
    """Return the calls of a suspicious test; None if it is not called again.

    Args:
        text: "auto", "no", or "WARMUP:ROUNDS".

    Raises: pytest.UsageError for anything else.
    """
    if text == "auto":
        return AUTO
    if text == "no":
        return None
    parts = str(text).split(":")
    if len(parts) == 2 and all(one.isdecimal() for one in parts):
        warmup, rounds = map(int, parts)
        if 0 <= warmup <= MAX_ROUNDS and 2 <= rounds <= MAX_ROUNDS:
            return Rounds(warmup, rounds, rounds, rounds)
    raise pytest.UsageError(
        "--leaks-repeat must be auto, no, or WARMUP:ROUNDS with at least 2 "
        f"rounds and at most {MAX_ROUNDS:,} of each, not {text!r}"
    )
