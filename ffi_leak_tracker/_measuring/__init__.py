"""Measurements: counts, peaks, leaks since a baseline, profiles.

A measurement is a scope; it adds no counters to the core.
"""
