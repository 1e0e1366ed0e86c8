from Cython.Build import cythonize
from setuptools import Extension, setup
import glob
ext = [Extension(p[:-4].replace("/", "."), [p], include_dirs=["fastpath"], libraries=["z", "dl"],
                 extra_compile_args=["-O3", "-Wall", "-Wextra"]) for p in sorted(glob.glob("fastpath/**/*.pyx", recursive=True))]
setup(name="pyfastpath", version="0.1.0", packages=["fastpath", "pyfastpath"],
      ext_modules=cythonize(ext, nthreads=2, compiler_directives={"language_level": "3", "boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False}))
