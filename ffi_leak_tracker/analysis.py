"""The call paths of blocks as a tree.

``Snapshot.call_tree()`` returns a tree with the counts of live blocks.
``LeakTracker.count_paths()`` returns one with the counts of all blocks that
were allocated while it was open. Two trees can be subtracted.
"""

from ffi_leak_tracker._records.analysis import CallTree, Hotspot, Node

__all__ = ["CallTree", "Hotspot", "Node"]
