"""Names the module that cffi compiles; everything else: pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["build_shelf.py:ffibuilder"])
