"""``python -m ffi_leak_tracker``: the command line."""

import sys

from ffi_leak_tracker._command.cli import main

if __name__ == "__main__":
    sys.exit(main())
