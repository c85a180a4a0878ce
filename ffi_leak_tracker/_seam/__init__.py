"""The seam to the compiled core: C values in, records out.

``core_api`` imports the compiled module; ``lib`` is used in this room only.
The core takes objects that the files ``core_*`` create for its own, and does
not track them.
"""
