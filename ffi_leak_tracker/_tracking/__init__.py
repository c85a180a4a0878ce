"""Switches, scopes, allocators and hooks: what is recorded, and when."""
