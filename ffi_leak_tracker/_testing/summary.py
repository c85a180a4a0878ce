"""What the run says at its end, and the file of ``--leaks-json``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ffi_leak_tracker._base.environment import variable
from ffi_leak_tracker._base.format import format_bytes, plural, printable
from ffi_leak_tracker._records.exceptions import ReportWriteError
from ffi_leak_tracker._records.filters import types_chosen
from ffi_leak_tracker._records.report_file import write_report
from ffi_leak_tracker._testing.figures import (
    BUDGETED,
    FIGURES,
    KNOWN,
    totals,
)
from ffi_leak_tracker._tracking import type_names, unseen, watched

if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.filters import LeakFilter
    from ffi_leak_tracker._records.known import Known
    from ffi_leak_tracker._testing.judge import Left
    from ffi_leak_tracker._testing.options import Settings
    from ffi_leak_tracker._tracking.scopes import Scope

#: Number of the format of the file.
JSON_VERSION = 1
#: Reasons that are printed without -v.
MOST_REASONS = 5


class Summary:
    """The figures of all tests of a run.

    With pytest-xdist the main process gets them with the reports.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tests: dict[tuple[str, str], dict[str, Any]] = {}
        #: Blocks that tests with a budget allocated.
        self._budgets: dict[tuple[str, str], int] = {}
        self._unmet: set[str] | None = None
        #: Types that filters of tests leave: whether none was ever recorded.
        self._types: dict[str, bool] = {}
        self._leaking: list[tuple[Scope, set[int]]] = []
        self._freed = 0
        #: Of the threads of tests: the test, blocks, bytes and the report.
        self._late: list[tuple[str, int, int, str]] = []
        self._places: set[str] = set()  # for the baseline that is written

    def add(self, report: pytest.TestReport) -> None:
        """Note the figures of a test, if its report has any."""
        figures = getattr(report, FIGURES, None)
        worker = getattr(report, "worker_id", "")
        if figures is not None:
            self._tests[report.nodeid, worker] = figures
        allocations = getattr(report, BUDGETED, None)
        if allocations is not None and figures is None:
            self._budgets[report.nodeid, worker] = allocations
        used, places = getattr(report, KNOWN, ((), ()))
        if self._settings.known is not None:
            self._settings.known.note_used(used)
            self._places.update(places)

    def keep(self, scope: Scope, leaked: set[int]) -> None:
        """Remember the leaks of a test, to look at them again at the end."""
        self._leaking.append((scope, leaked))

    def add_late(self, owner: str, left: Left, text: str) -> None:
        """Note what a thread leaked after the end of the test it is of."""
        leaks = left.leaks
        self._late.append((owner, len(leaks), leaks.total_bytes, text))

    def _count_freed(self) -> int:
        """Return how many leaked blocks were freed after their test."""
        freed = 0
        for scope, leaked in self._leaking:
            live = {block.sequence for block in scope.snapshot()}
            freed += len(leaked - live)
        return freed

    # --- libraries that were never loaded --------------------------------
    def finish(self, session: pytest.Session) -> None:
        """Fail a run whose options name a library that was never loaded.

        A worker of pytest-xdist tells the main process.
        """
        output = getattr(session.config, "workeroutput", None)
        self._freed += self._count_freed()
        if output is not None:
            output["ffi_leaks_freed"] = self._freed
            unknown = self._unknown_types()
            output["ffi_leaks_types"] = [
                (name, name in unknown) for name in self._types
            ]
            output["ffi_leaks_unmet"] = list(watched.unmet())
            output["ffi_leaks_late"] = self._late
        elif (
            self._settings.attach
            and session.exitstatus in {0, pytest.ExitCode.NO_TESTS_COLLECTED}
            and self.unmet()
        ):
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif self._late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if output is None and self._settings.json is not None:
            self._write_json(self._settings.json)
        known = self._settings.known
        if output is None and known is not None and known.writes:
            self._write_baseline(known)

    def _write_baseline(self, known: Known) -> None:
        try:
            known.write(self._places)
        except ReportWriteError as error:
            raise pytest.UsageError(str(error)) from error

    def add_worker(self, output: dict[str, Any]) -> None:
        """Note what a worker of pytest-xdist tells at its end."""
        self._freed += output.get("ffi_leaks_freed", 0)
        self._late += map(tuple, output.get("ffi_leaks_late", ()))
        unmet = set(output.get("ffi_leaks_unmet", ()))
        for name, is_unknown in output.get("ffi_leaks_types", ()):
            self._types[name] = self._types.get(name, True) and is_unknown
        self._unmet = unmet if self._unmet is None else self._unmet & unmet

    def unmet(self) -> tuple[str, ...]:
        """Return the names of libraries that no process of the run loaded."""
        return watched.unmet() if self._unmet is None else tuple(self._unmet)

    def add_filter(self, filter: LeakFilter | None) -> None:
        """Note the types that a filter leaves, to judge them at the end."""
        self._types.update(dict.fromkeys(types_chosen(filter), True))

    def _unknown_types(self) -> list[str]:
        """Return the types of filters of which no process recorded a block."""
        asked = [name for name, is_unknown in self._types.items() if is_unknown]
        return type_names.unknown(asked)

    # --- output ----------------------------------------------------------
    def write(self, terminal: pytest.TerminalReporter) -> None:
        """Print the lines of the end of the run."""
        figures = list(self._tests.values())
        leaking = [one for one in figures if one["leaks"]]
        tests = plural(len(figures), "test")
        if leaking:
            verb = "leaks" if len(leaking) == 1 else "leak"
            what = f"{len(leaking):,} of {tests} {verb}"
            line = f"native leaks: {what} {totals(leaking, 'leaks')}"
            terminal.write_line(line, red=True)
        elif figures and not any(one["allocations"] for one in figures):
            line = f"native leaks: no allocations were recorded in {tests}"
            terminal.write_line(line + self._advice(), yellow=True)
        elif terminal.config.option.verbose > 0:
            terminal.write_line(f"native leaks: none in {tests}")
        misused = [one for one in figures if one["misuses"]]
        if misused:
            what = plural(sum([one["misuses"] for one in misused]), "misuse")
            tests_of = plural(len(misused), "test")
            line = f"native leaks: {what} of memory in {tests_of}"
            terminal.write_line(line, red=True)
        self._write_threads(terminal)
        if self._freed:
            blocks = plural(self._freed, "leaked block")
            terminal.write_line(
                f"native leaks: {blocks} freed after the test, before the end "
                "of the run"
            )
        self._write_held(terminal)
        self._write_unsearched(terminal)
        if self._settings.known is not None and _is_whole_run(terminal):
            for note in self._settings.known.remarks():
                terminal.write_line(f"native leaks: {note}")
        self.write_doubts(terminal)
        if variable("GITHUB_ACTIONS") == "true":
            self._annotate(terminal)

    def _write_threads(self, terminal: pytest.TerminalReporter) -> None:
        """Print what threads did after, or beside, their tests."""
        for owner, blocks, size, text in self._late:
            what = f"{plural(blocks, 'block')}, {format_bytes(size)}"
            line = f"leaked {what} after the test had ended"
            terminal.write_line(
                f"native leaks: a thread of {printable(owner)} {line}", red=True
            )
            terminal.write_line(text)
        others = sum([one["other_threads"] for one in self._tests.values()])
        if others and self._settings.own_threads:
            terminal.write_line(
                f"native leaks: {plural(others, 'block')} of other threads not "
                "counted (--leaks-own-threads)"
            )

    def write_doubts(self, terminal: pytest.TerminalReporter) -> None:
        """Print why leaks may not have been seen."""
        names = self.unmet()
        found = [watched.unmet_text(names)] if names else []
        if self._unmet is None:  # the tests ran in this process
            found += unseen.doubts_but_names()
        types = self._unknown_types()
        if types:
            found.append(type_names.text_on(types))
        for text in found:
            terminal.write_line(f"native leaks: {text}", red=True)

    def write_silence(self, terminal: pytest.TerminalReporter) -> None:
        """Print if fixtures and budgets saw nothing, without --leaks."""
        seen = [one["allocations"] for one in self._tests.values()]
        seen += self._budgets.values()
        if seen and not any(seen):
            terminal.write_line(
                "native leaks: no allocations were recorded in "
                f"{plural(len(seen), 'test')}; {unseen.watched_text()}",
                yellow=True,
            )
        if seen:
            self.write_doubts(terminal)

    def _annotate(self, terminal: pytest.TerminalReporter) -> None:
        """Print workflow commands, which GitHub shows beside the lines."""
        for (nodeid, _), one in self._tests.items():
            if one["place"] is not None:
                file, line = one["place"]
                where = f"file={_escaped(_relative(file), True)},line={line}"
                title = _escaped(f"Native memory: {nodeid}", True)
                text = _escaped("\n".join([one["message"], *one["growths"]]))
                terminal.write_line(f"::error {where},title={title}::{text}")

    def _advice(self) -> str:
        """Return what was watched, and how to watch more."""
        if self._settings.own:
            return (
                "; only the allocators of this package were watched: without "
                "--leaks-own the libraries are, too"
            )
        if self._settings.attach:
            names = ", ".join(map(printable, self._settings.attach))
            return f"; only {names} was watched: see --leaks-attach"
        return "; all libraries but the interpreter's were watched"

    def _fixtures(self) -> list[dict[str, Any]]:
        return [
            fixture
            for one in self._tests.values()
            for fixture in one["fixtures"]
        ]

    def _write_held(self, terminal: pytest.TerminalReporter) -> None:
        tests = [one for one in self._tests.values() if one["held"]]
        fixtures = [one for one in self._fixtures() if one["held"]]
        if not tests and not fixtures:
            return
        who = _tests_and_fixtures(len(tests), len(fixtures))
        unsure = [one for one in tests if one["unsure"]]
        what = totals([*tests, *fixtures], "held")
        line = f"native leaks: held, not counted: {what} of {who}"
        if unsure:
            line += f"; {plural(len(unsure), 'test')} could not be called again"
        terminal.write_line(line)
        if terminal.config.option.verbose <= 0:
            self._write_unsure(terminal)
        if terminal.config.option.verbose > 0:
            for (nodeid, _), one in self._tests.items():
                if one["held"]:
                    why = one["unsure"] or "it does not grow"
                    terminal.write_line(
                        f"  {nodeid}: {totals([one], 'held')} ({why})"
                    )
            for one in fixtures:
                terminal.write_line(f"  {one['name']}: {totals([one], 'held')}")

    def _write_unsure(self, terminal: pytest.TerminalReporter) -> None:
        """Print why tests could not be called again, the most usual first."""
        why: dict[str, list[str]] = {}
        for (nodeid, _), one in self._tests.items():
            if one["held"] and one["unsure"]:
                why.setdefault(one["unsure"], []).append(nodeid)
        most = sorted(why.items(), key=lambda one: -len(one[1]))
        for reason, tests in most[:MOST_REASONS]:
            more = f" and {len(tests) - 1:,} more" if len(tests) > 1 else ""
            terminal.write_line(f"  {printable(tests[0])}{more}: {reason}")
        if len(most) > MOST_REASONS:
            left = plural(len(most) - MOST_REASONS, "reason")
            terminal.write_line(f"  {left} more: see -v")

    def _write_unsearched(self, terminal: pytest.TerminalReporter) -> None:
        """Print that lost blocks may have passed as held, and why."""
        tests = [one for one in self._tests.values() if one["unsearched"]]
        fixtures = [one for one in self._fixtures() if one["unsearched"]]
        if not tests and not fixtures:
            return
        who = _tests_and_fixtures(len(tests), len(fixtures))
        why = sorted({one["unsearched"] for one in [*tests, *fixtures]})
        terminal.write_line(
            f"native leaks: no search for lost blocks in {who}, what was "
            f"lost may have passed: {'; '.join(why)}",
            yellow=True,
        )

    def _write_json(self, path: str) -> None:
        data = {
            "version": JSON_VERSION,
            "unmet_libraries": sorted(self.unmet()),
            "threads": [
                {"nodeid": owner, "leaks": blocks, "leaked_bytes": size}
                for owner, blocks, size, _ in self._late
            ],
            "tests": [
                {"nodeid": nodeid, "worker": worker or None, **figures}
                for (nodeid, worker), figures in self._tests.items()
            ],
        }
        try:
            write_report(Path(path), [json.dumps(data, indent=1), "\n"])
        except ReportWriteError as error:
            raise pytest.UsageError(str(error)) from error


def _tests_and_fixtures(tests: int, fixtures: int) -> str:
    counts = [(tests, "test"), (fixtures, "fixture")]
    return " and ".join([plural(count, of) for count, of in counts if count])


def _is_whole_run(terminal: pytest.TerminalReporter) -> bool:
    """Return whether all tests ran, so that what fits no leak is gone."""
    config = terminal.config
    given = getattr(config, "args_source", None)
    is_part = getattr(given, "name", "") == "ARGS"
    is_cut = is_part or bool(terminal.stats.get("deselected"))
    return config.option.verbose > 0 or not is_cut


def _relative(file: str) -> str:
    """Return a path as GitHub knows it: from the folder of the checkout."""
    try:
        path = os.path.relpath(file, variable("GITHUB_WORKSPACE"))
    except ValueError:  # on another drive
        return file
    return file if path.startswith(os.pardir) else path


def _escaped(text: str, is_property: bool = False) -> str:
    """Return text for a workflow command of GitHub.

    Its documentation names these characters.
    """
    pairs = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A")]
    if is_property:
        pairs += [(":", "%3A"), (",", "%2C")]
    for character, code in pairs:
        text = text.replace(character, code)
    return text
