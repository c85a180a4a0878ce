"""Uses ``_shapes``: run build_shapes.py first."""

from _shapes import lib

from ffi_leak_tracker import LeakTracker


def draw(corners):
    shape = lib.shape_new(corners)
    lib.shape_draw(shape)
    if corners > 3:
        lib.shape_free(shape)


def main():
    with LeakTracker.scope() as scope:
        for corners in (3, 4, 5):
            draw(corners)
        ordered = lib.shape_order(6)
        for block in scope.snapshot():
            where = block.frames[0].function if block.frames else "C"
            print(f"{block.type}, made in {where}, needs {block.release}")
        lib.shape_free(ordered)
    print(scope.stats.live_blocks, "live")


if __name__ == "__main__":
    main()
