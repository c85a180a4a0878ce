"""How much some code allocates: measure it, limit it, profile it."""

from ffi_leak_tracker import (
    AllocationProfiler,
    AllocationTracker,
    BudgetError,
    LeakDetector,
    PeakMemoryTracker,
    adaptive_calloc,
)


def blur(rows: int) -> int:
    """Work on rows of pixels, with a buffer of two of them at a time."""
    above = adaptive_calloc("uint8_t", 100)
    for _ in range(rows):
        row = adaptive_calloc("uint8_t", 100)
        adaptive_calloc.free(above)
        above = row
    adaptive_calloc.free(above)
    return rows


def main() -> None:
    rows, stats = AllocationTracker.measure(blur, 8)
    print(f"{rows} rows: {stats.allocations} blocks, {stats.bytes_allocated} B")

    with PeakMemoryTracker() as tracker:
        blur(8)
    print(f"at most {tracker.peak_bytes} B at once")
    tracker.assert_max(peak=200)
    try:
        tracker.assert_max(blocks=5)
    except BudgetError as error:
        print(error)

    with LeakDetector() as detector:
        blur(8)
    detector.assert_no_leaks()

    profiler = AllocationProfiler()
    for rows in (1, 1, 2, 3, 5, 8):
        profiler.profile(blur, rows)
    print(f"mean {profiler.mean():.1f} B, median {profiler.median():.1f} B")
    print(f"95 of 100 runs: {profiler.percentile(95)} B or less")
    print(profiler.histogram(4))


if __name__ == "__main__":
    main()
