"""Names the module that cffi compiles; everything else: pyproject.toml."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext


class ParallelBuild(build_ext):
    """Compiles the sources of an extension side by side."""

    def build_extension(self, ext):
        compile_in_turn = self.compiler.compile

        def compile_all(sources, **options):
            def compile_one(source):
                return compile_in_turn([source], **options)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = list(pool.map(compile_one, sources))
            return [name for names in made for name in names]

        self.compiler.compile = compile_all
        super().build_extension(ext)


#: pip asks for the metadata twice before it builds. Neither needs the
#: module's declarations, and reading them takes an eighth of a second.
only_metadata = "egg_info" in sys.argv or "dist_info" in sys.argv

setup(
    cffi_modules=[] if only_metadata else ["csrc/build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": ParallelBuild},
)
