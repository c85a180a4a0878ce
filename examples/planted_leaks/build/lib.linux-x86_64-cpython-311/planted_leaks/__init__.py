"""A shelf with boxes, over a library with six planted leaks."""

from planted_leaks._shelf import ffi, lib

_calls = []


class Shelf:
    """A shelf; leak 1 is in the library, leak 2 in ``name``."""

    def __init__(self, name, width):
        self._shelf = lib.shelf_open(name.encode(), width)
        if self._shelf == ffi.NULL:
            raise ValueError(f"width must be positive, not {width}")

    def close(self):
        lib.shelf_close(self._shelf)

    @property
    def name(self):
        text = lib.shelf_name(self._shelf)
        return ffi.string(text).decode()  # leak 2: the text is ours to free

    @property
    def name_freed(self):
        text = lib.shelf_name(self._shelf)
        try:
            return ffi.string(text).decode()
        finally:
            lib.shelf_name_free(text)


class Box:
    """A box that owns its struct; ``is_shallow`` is leak 3."""

    def __init__(self, width, label, is_shallow=False):
        free = lib.box_free_shallow if is_shallow else lib.box_free
        self._box = ffi.gc(lib.box_new(width, label.encode()), free)

    @property
    def label(self):
        return ffi.string(self._box.label).decode()


@ffi.def_extern()
def on_each(i, userdata):
    """Call the Python function in the userdata."""
    return ffi.from_handle(userdata)[0](i) or 0


def each(n, function, keep=False):
    """Call a function n times; with ``keep``, leak 4: the userdata is kept."""
    userdata = ffi.new_handle([function, lib.box_new(n, b"userdata")])
    if keep:
        _calls.append(userdata)
    lib.each(n, lib.on_each, userdata)
    if not keep:
        lib.box_free(ffi.from_handle(userdata)[1])


def total(values, is_array=True):
    """Return the sum; without ``is_array``, leak 5: delete for new[]."""
    counts = lib.counts_new(len(values))
    for i, value in enumerate(values):
        counts[i] = value
    found = sum(counts[0 : len(values)])
    (lib.counts_delete_array if is_array else lib.counts_delete)(counts)
    return found
