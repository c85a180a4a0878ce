"""Immutable values and their text: snapshots, filters, errors, emitters."""
