"""The pytest plugin.

Only ``plugin`` is imported by pytest; the other modules are loaded when a test
is checked.
"""
