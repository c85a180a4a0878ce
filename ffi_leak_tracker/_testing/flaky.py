"""The plugin ``flaky``, which runs all tests itself.

It reports the outcome of a test before the teardown, even of a test that it
would not run again. A leak could then only be an error at teardown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import pytest

#: What its plugin has, in the versions that are known.
_PARTS = (
    "_copy_flaky_attributes",
    "_get_test_instance",
    "_has_flaky_attributes",
    "call_and_report",
    "force_flaky",
    "runner",
)


def leaves_alone(protocol: Callable[..., object], item: pytest.Item) -> bool:
    """Return whether a hook is of ``flaky`` and would run a test only once."""
    plugin: Any = getattr(protocol, "__self__", None)
    if type(plugin).__module__.partition(".")[0] != "flaky":
        return False
    if not all(hasattr(plugin, name) for name in _PARTS):
        return False
    if plugin.runner.call_and_report == plugin.call_and_report:
        return False  # a run inside of a test that it runs
    if plugin.force_flaky or item.get_closest_marker("flaky") is not None:
        return False
    # As it does itself before each test: from its decorator to the item.
    plugin._copy_flaky_attributes(item, plugin._get_test_instance(item))
    return not plugin._has_flaky_attributes(item)
