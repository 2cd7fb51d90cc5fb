"""The house keeps its order: one name for one thing, files and signatures of a readable size, documents up to date."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from specxr import vocabulary

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "specxr"
MOST_LINES = 400
MOST_PARAMETERS = 8
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """Public names that the statements of a module define; imports do not count."""
    for node in body:
        targets: list[ast.expr] = []
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield from [] if node.name.startswith("_") else [node.name]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _names([*node.body, *node.orelse])
        for name in (name for target in targets for name in ast.walk(target)):
            if isinstance(name, ast.Name) and not name.id.startswith("_"):
                yield name.id


def test_no_public_name_is_defined_in_two_files():
    homes = defaultdict(set)
    for path in _files("specxr"):
        # Commands are named after what they do, which has the same name in the package.
        if (PACKAGE / "cli") not in path.parents:
            for name in _names(ast.parse(path.read_text()).body):
                homes[name].add(str(path.relative_to(ROOT)))
    homes.pop("__all__", None)
    assert {name: sorted(files) for name, files in homes.items() if len(files) > 1} == {}


def test_no_file_is_longer_than_one_reads_in_one_go():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _files("specxr", "tests", "recipes")
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_function_takes_more_than_eight_parameters():
    wide = {}
    for path in _files("specxr"):
        # An option of the command line is a parameter of its function: their number is the user's matter.
        if (PACKAGE / "cli") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, _FUNCTIONS):
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                count = len([argument for argument in given if argument.arg not in ("self", "cls")])
                if count > MOST_PARAMETERS:
                    wide[f"{_where(path, node)} {node.name}"] = count
    assert wide == {}


def test_every_public_function_and_class_has_a_docstring():
    bare = []
    for path in _files("specxr"):
        tree = ast.parse(path.read_text())
        public = [node for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))]
        for owner in [
            node for node in public if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]:
            public += [node for node in owner.body if isinstance(node, _FUNCTIONS)]
        bare += [
            f"{_where(path, node)} {node.name}"
            for node in public
            if not node.name.startswith("_") and ast.get_docstring(node) is None
        ]
    assert bare == []


def test_the_page_of_labels_is_what_the_vocabulary_prints():
    written = (ROOT / "docs" / "reference" / "labels.md").read_text()
    remedy = "python -m specxr.vocabulary > docs/reference/labels.md"
    assert written == vocabulary.page(), f"docs/reference/labels.md is stale: {remedy}"


def test_imports_follow_the_floors():
    # lint-imports lies beside the interpreter, whether or not its environment is active.
    program = Path(sys.executable).parent / "lint-imports"
    if not program.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
