"""Which Python objects pile up, and where they were made.

Sessions that are not closed stay in a list; each keeps a cdata buffer.
"""

import cffi

from ffi_leak_tracker import ObjectTracker

ffi = cffi.FFI()
opened: list = []  # which forgets to forget


class Session:
    """Keeps a native buffer as long as it lives."""

    def __init__(self, size: int) -> None:
        self.buffer = ffi.new("char[]", size)
        opened.append(self)

    def close(self) -> None:
        """Give the buffer up."""
        opened.remove(self)


def handle(request: int) -> None:
    """Close all sessions but those of every third request."""
    session = Session(100)
    if request % 3:
        session.close()


def main() -> None:
    names = iter(f"session {number}" for number in range(10))
    tracker = ObjectTracker(
        Session,
        on_create=lambda cls: next(names),
        on_free=lambda cls, name: print("gone:", name),
    )
    tracker.track(ffi.CData)
    with tracker:
        for request in range(5):
            handle(request)
    for cls in tracker.classes:
        counts = tracker[cls]
        print(
            f"{cls.__name__}: {counts.new_count} made, "
            f"{counts.retained_count} live"
        )
    for _, name in tracker.each_object(Session):
        print("live:", name)
    for group in tracker.snapshot(Session).groups():
        site = group.frames[0]
        where = f"{site.function}, line {site.lineno}"
        print(f"{group.count} of {group.type}, made in {where}")


if __name__ == "__main__":
    main()
