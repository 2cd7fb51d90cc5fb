"""Every benchmark and every recipe runs: each has a setting `--small` that takes some seconds.

What they print is not judged here; a script whose data or package are absent says so and is skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = [
    path for path in sorted((ROOT / "tests/benchmarks").glob("*.py")) if not path.name.startswith("test_")
]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
# Its workers are processes, which must find its functions by importing it.
OWN_PROCESS = {"bulk.py"}


def run(path: Path, *arguments: str) -> None:
    """Run the script in this process, which has imported most of what it needs."""
    specification = importlib.util.spec_from_file_location(f"smoke_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look up their module
    try:
        specification.loader.exec_module(module)
        module.main(arguments)
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            raise
        pytest.skip(stop.code)
    finally:
        del sys.modules[specification.name]


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """An empty working directory, which stays empty: nothing is written but to `--out`."""
    monkeypatch.chdir(tmp_path)
    if "SPECXR_SHARED" not in os.environ:
        monkeypatch.setenv("SPECXR_SHARED", str(ROOT.parent / "shared"))
    monkeypatch.setattr(sys, "path", sys.path.copy())  # benchmarks add tests/ to it
    return tmp_path


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_runs(path, folder, capsys):
    if path.name in OWN_PROCESS:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, path, "--small"], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    else:
        run(path, "--small")
        printed = capsys.readouterr().out
    assert printed
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_and_writes_where_it_is_told(path, folder, capsys):
    out = folder / ("figure.png" if path.stem == "a_star_cost_maps" else "out")
    run(path, "--small", "--out", str(out))
    assert capsys.readouterr().out
    assert list(folder.iterdir()) == [out]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_help_with_its_time_and_the_defaults(path, capsys, monkeypatch):
    parsers = []
    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(
        argparse.ArgumentParser,
        "parse_args",
        lambda self, *given: parsers.append(self) or parse(self, *given),
    )
    with pytest.raises(SystemExit) as stop:
        run(path, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "Expected time" in " ".join(text.split())
    assert "--out" in text
    assert "--small" in text
    for option in parsers[0]._actions:
        assert option.help, option.dest
        if not any(option.default is nothing for nothing in (None, False, argparse.SUPPRESS)):
            assert "(" in option.help, f"{option.dest} has a default that its help does not name"
