"""Immutable values and their text: snapshots, filters, errors, emitters.

Nothing here needs the compiled core, so reports can be read and compared
anywhere.
"""
