"""Where compiled functions are kept, and when they are compiled again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import specxr
from specxr.kernels.compiled import clean, convolution, fit, linear, model, shape, starts

PACKAGE = Path(specxr.__file__).parent
SCRIPT = """
from specxr.kernels.compiled.callee import Argument
from specxr.kernels.compiled.caller import caller
print(caller(Argument(3.0)), sum(caller.stats.cache_hits.values()), caller._cache.cache_path)
"""
CALLER = """
from specxr.kernels.compiled.callee import callee
from specxr.kernels.compiled.jit import compiled

@compiled
def caller(x):
    return callee(x) + 1.0
"""
CALLEE = """
from typing import NamedTuple
from specxr.kernels.compiled.jit import inlined

class {name}(NamedTuple):
    x: float

Argument = {name}

@inlined
def callee(argument):
    return {factor} * argument.x
"""


@pytest.fixture
def package(tmp_path):
    """Two functions, compiled as those of the kernels are."""
    folder = tmp_path / "specxr/kernels/compiled"
    folder.mkdir(parents=True)
    (tmp_path / "specxr/__init__.py").touch()
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE.format(factor=2, name="Old"))
    shutil.copy(PACKAGE / "kernels/compiled/jit.py", folder)
    shutil.copy(PACKAGE / "vocabulary.py", tmp_path / "specxr")
    return folder


def call(package, **environment):
    """Result in another process, whether it was read from disk, where it is kept; what is said on stderr."""
    root = package.parents[2]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    variables |= {"PYTHONPATH": str(root), **environment}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables, cwd=root)
    value, hits, path = done.stdout.split()
    return float(value), int(hits), Path(path), done.stderr


def test_it_is_read_from_disk_until_what_it_calls_changes(package):
    value, hits, path, told = call(package)
    assert (value, hits, path) == (7.0, 0, package / "__pycache__")
    assert told == "specxr: compiling its kernels, once on this machine (about a minute)\n"
    assert call(package) == (7.0, 1, path, "")
    (package / "callee.py").write_text(CALLEE.format(factor=5, name="New"))
    assert call(package)[:2] == (16.0, 0)


def test_where_the_package_cannot_be_written_it_is_kept_in_the_cache_of_the_user(package, tmp_path):
    (package / "__pycache__").touch()  # no folder can be made here, not even by root
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    _, _, path, _ = call(package, **cache)
    assert path.is_relative_to(tmp_path)
    assert not path.is_relative_to(package)
    assert call(package, **cache)[:2] == (7.0, 1)


@pytest.mark.parametrize("module", [clean, convolution, fit, linear, model, shape, starts])
def test_compiled_functions_call_only_those_that_are_inlined(module):
    # A process would take another from the function that it reads first, and each has its own order of sums.
    for function in vars(module).values():
        if isinstance(function, Dispatcher):
            names = function.py_func.__code__.co_names
            called = [function.py_func.__globals__.get(name) for name in names]
            assert all(f.targetoptions.get("forceinline") for f in called if isinstance(f, Dispatcher))
