"""Text, ELF files, records, decorators and settings.

The lowest room. It knows nothing of blocks; every room may use it.
"""
