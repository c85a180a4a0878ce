"""Text, records, decorators and settings; knows nothing of blocks."""
