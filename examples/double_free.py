"""A double free, proven: the error shows all three call paths.

The last blocks that were freed are held back from the C free, so that their
addresses cannot belong to anybody else yet; nothing is freed twice.
"""

from ffi_leak_tracker import DoubleFreeError, LeakTracker, adaptive_calloc


def make():
    """Allocate."""
    return adaptive_calloc("int32_t", 4)


def use(numbers) -> None:
    """Free what the caller frees as well: the bug."""
    numbers[0] = 1
    adaptive_calloc.free(numbers)


def main() -> None:
    LeakTracker.enable()
    numbers = make()
    use(numbers)
    try:
        adaptive_calloc.free(numbers)
    except DoubleFreeError as error:
        print(error)
    LeakTracker.disable()


if __name__ == "__main__":
    main()
