"""Windows that measure: counts, peaks, leaks since a baseline, profiles."""
