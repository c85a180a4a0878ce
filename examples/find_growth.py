"""Does a function leak the more often it is called? And what if a service does?

find_growth calls the function until that is clear; GrowthMonitor only looks,
now and then (here: when asked; ``start()`` would do it once a minute).
"""

import itertools

from ffi_leak_tracker import (
    GrowthMonitor,
    LeakTracker,
    adaptive_calloc,
    find_growth,
)

cache = {}
calls = itertools.count(1)


def handle() -> None:
    """Keep one buffer for good, and forget another one each 50th call."""
    if "buffer" not in cache:
        cache["buffer"] = adaptive_calloc("char", 4096)
    numbers = adaptive_calloc("int32_t", 25)
    if next(calls) % 50:
        adaptive_calloc.free(numbers)


def main() -> None:
    growth = find_growth(handle)
    for leak in growth.leaks:
        place = leak.frames[0]
        print(f"{leak.type} in {place.function}: {leak.pattern}, k = {leak.k}")
        print(f"  {leak.bytes_per_call:g} bytes a call")
    for path in growth.caches:
        print(f"{path.type}: {path.pattern}, {path.bytes} bytes")

    LeakTracker.enable(stack_depth=1)
    monitor = GrowthMonitor(tell, blocks=10, increases=2)
    for _ in range(4):
        monitor.sample()
        for _ in range(1000):
            handle()
    monitor.stop()


def tell(suspects: tuple) -> None:
    """Print what keeps growing; the second time with its call paths."""
    for one in suspects:
        paths = ""
        if one.is_traced:
            frames = one.snapshot[0].frames
            paths = ", by " + " < ".join(frame.function for frame in frames)
        print(f"{one.type} grew {one.increases} times: {one.blocks}{paths}")


if __name__ == "__main__":
    main()
