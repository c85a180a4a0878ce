"""The table of platforms is what the script writes from its results."""

from __future__ import annotations

import platforms


def test_the_page_shows_the_results() -> None:
    """`python tests/platforms.py table` would change nothing."""
    assert platforms.PAGE.read_text("utf-8") == platforms.page()


def test_what_was_not_run_is_said() -> None:
    """Each platform of the list has a row."""
    rows = [line for line in platforms.lines() if line[:3] == "| C"]
    rows += [line for line in platforms.lines() if line[:3] == "| P"]
    ran = {
        (row["interpreter"], row["machine"], row["system"])
        for row in platforms.load(platforms.RESULTS)
    }
    missing = [one for one in platforms.WANTED if one not in ran]
    assert len(missing) == sum("| not run |" in row for row in rows)


def test_a_cell_counts_what_ended_how() -> None:
    """Zeros are left out; nothing at all is "not run"."""
    found = {"passed": 2547, "failed": 0, "skipped": 3}
    assert platforms.cell(found) == "2,547 passed, 3 skipped"
    assert platforms.cell(dict.fromkeys(found, 0)) == "not run"
