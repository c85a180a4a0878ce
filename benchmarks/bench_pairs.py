"""How right ``suggest`` is, against specifications written from documents.

Each package is installed from the index by ``pip install``. What is not
installed is skipped, and the table says so.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from ffi_leak_tracker._handles.functions import Switch
from ffi_leak_tracker._handles.instrument import Plan
from ffi_leak_tracker._handles.spec_files import FOLDER, known_modules, read
from ffi_leak_tracker.handles import Spec, suggest

#: Modules in ABI mode: where their lib is.
LIBS = {"cairocffi.ffi": "cairocffi:cairo", "_soundfile": "soundfile:_snd"}
#: Owned by the caller as libgit2 documents it; the C half of pygit2 takes
#: them over, so the specification does not record them. Not counted.
OTHERS_TEXT = """
git_clone git_repository_init git_repository_init_ext git_repository_open_ext
git_submodule_clone git_submodule_open
"""
OTHERS = {"pygit2._libgit2": OTHERS_TEXT.split()}


def pairs(spec: Spec, names: list[str]) -> dict[tuple[str, Any], set[str]]:
    """Return what is made: function and argument, and what may free it."""
    found = {}
    for name, words in spec.for_functions(names).items():
        for word in words:
            kind = type(word).__name__
            if kind in {"Owned", "Out", "Chain", "Incref"}:
                place = getattr(word, "arg", None)
                found[name, f"{kind} {place}"] = set(word.free)  # type: ignore[attr-defined]
    return found


def libraries(module: str) -> tuple[Any, Any] | None:
    """Return ffi and lib of a module, or None if it is not installed."""
    try:
        ffi = import_module(module).ffi
        home, _, name = LIBS.get(module, f"{module}:lib").partition(":")
        return ffi, getattr(import_module(home), name)
    except (ImportError, OSError):
        return None


def main() -> None:
    """Print the table."""
    print(
        f"{'module':26} {'functions':>9} {'truth':>5} | "
        f"{'high':>5} {'right':>5} | {'medium+':>7} {'right':>5} "
        f"{'precision':>9} {'recall':>6}"
    )
    sums = {"truth": 0, "high": 0, "high right": 0, "medium": 0, "right": 0}
    for module in known_modules():
        both = libraries(module)
        if both is None:
            print(f"{module:26} not installed")
            continue
        row(module, *both, sums)
    precision = sums["right"] / max(1, sums["medium"])
    print(
        f"{'all':26} {'':>9} {sums['truth']:>5} | {sums['high']:>5} "
        f"{sums['high right']:>5} | {sums['medium']:>7} {sums['right']:>5} "
        f"{precision:>9.2f} {sums['right'] / max(1, sums['truth']):>6.2f}"
    )


def row(module: str, ffi: Any, lib: Any, sums: dict[str, int]) -> None:
    """Print the row of a module."""
    spec = read(f"{FOLDER}/{module}.toml")
    # Wildcards are applied to the functions that they fit, as instrument does.
    plan = Plan(ffi, lib, spec, False, Switch())
    truth = pairs(plan.fitted, dir(lib))
    found = suggest(ffi, lib)
    sure = {
        level: {
            key: free
            for key, free in pairs(found.spec(level), dir(lib)).items()
            if key[0] not in OTHERS.get(module, ())
        }
        for level in ("high", "medium")
    }
    right = {
        level: [
            key
            for key, free in made.items()
            if key in truth and (free & truth[key] or free == truth[key])
        ]
        for level, made in sure.items()
    }
    count = len(right["medium"])
    print(
        f"{module:26} {len(plan.wrappers) + len(plan.others):>9} "
        f"{len(truth):>5} | {len(sure['high']):>5} {len(right['high']):>5} | "
        f"{len(sure['medium']):>7} {count:>5} "
        f"{count / max(1, len(sure['medium'])):>9.2f} "
        f"{count / max(1, len(truth)):>6.2f}"
    )
    sums["truth"] += len(truth)
    sums["high"] += len(sure["high"])
    sums["high right"] += len(right["high"])
    sums["medium"] += len(sure["medium"])
    sums["right"] += count
    if "--wrong" in sys.argv:
        for key, free in sure["medium"].items():
            if key not in right["medium"]:
                print(f"    wrong: {key}, {free}; right: {truth.get(key)}")
        for key in truth:
            if key not in right["medium"]:
                print(f"    missed: {key}, {truth[key]}")


if __name__ == "__main__":
    main()
