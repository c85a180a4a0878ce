"""What grew between two moments, and by which call paths."""

from ffi_leak_tracker import LeakTracker, diagnostic_calloc


def new_row():
    return diagnostic_calloc("double", 8)


def load(rows):
    """Make a table: a header and its rows."""
    table = [diagnostic_calloc("char", 64)]
    for _ in range(rows):
        table.append(new_row())
    return table


def refresh(tables):
    """Keep one table more, and drop another."""
    tables.append(load(3))
    for block in load(2):
        diagnostic_calloc.free(block)


def main():
    LeakTracker.enable()
    tables = [load(1)]
    before = LeakTracker.snapshot()
    for _ in range(4):
        refresh(tables)
    after = LeakTracker.snapshot()

    print(after.compare_to(before, group_by="type").to_text())
    tree = (after - before).call_tree(outermost_first=True)
    print(tree.to_text(source=False))
    for spot in after.call_tree().hotspots(by="blocks"):
        print(f"{spot.frame.function:10} {spot.blocks:3} {spot.self_blocks:3}")


if __name__ == "__main__":
    main()
