"""The command line: one subcommand a file.

It may print; the other rooms may not.
"""
