"""What is recorded, and when: the tracker, scopes, allocators, hooks."""
