"""A scope for each turn of a loop: which turns leak, and how much.

Entering and leaving a scope scans nothing, so a hot loop can afford it.
"""

from ffi_leak_tracker import LeakTracker, adaptive_calloc


def handle(request: int) -> int:
    """Sum a few numbers in native memory; forgets it for odd requests."""
    numbers = adaptive_calloc("int32_t", 16)
    for i in range(16):
        numbers[i] = request
    total = sum(numbers[i] for i in range(16))
    if request % 2 == 0:
        adaptive_calloc.free(numbers)
    return total


def main() -> None:
    for request in range(4):
        with LeakTracker.scope(f"request {request}") as scope:
            handle(request)
        stats = scope.stats
        print(f"{scope.name}: {stats.live_blocks} of {stats.allocations} left")
        for block in scope.snapshot():
            place = block.frames[0]
            print(f"  {block.size} bytes of {block.type} by {place.function}")


if __name__ == "__main__":
    main()
