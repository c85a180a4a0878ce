"""A report of your own, and filters that say what does not belong in it.

An emitter is anything with emit(snapshot), or a plain function.
"""

from ffi_leak_tracker import LeakFilter, LeakTracker, adaptive_calloc


class BytesByType:
    """Prints how many bytes of each C type are live, largest first."""

    def emit(self, snapshot) -> None:
        """Print a line for each type."""
        totals: dict[str, int] = {}
        for block in snapshot:
            totals[block.type] = totals.get(block.type, 0) + block.size
        for name, size in sorted(totals.items(), key=lambda pair: -pair[1]):
            print(f"{size:5} {name}")
        if snapshot.hidden:
            print(f"hidden: {snapshot.hidden} ({snapshot.filter})")


def fill_cache() -> None:
    """Allocate what is meant to stay."""
    adaptive_calloc("double", 100)


def main() -> None:
    small = LeakFilter.ignore_size(max=8)
    cached = LeakFilter.ignore_stack_contains("fill_cache")
    with LeakTracker.scope(filter=small | cached) as scope:
        fill_cache()
        for count in (1, 2, 10, 20):
            adaptive_calloc("int32_t", count)
        adaptive_calloc("char", 9)
    scope.emit(BytesByType())
    scope.emit(lambda snapshot: print(f"blocks: {len(snapshot)}"))


if __name__ == "__main__":
    main()
