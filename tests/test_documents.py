"""The documents name only what exists: links, files, commands, options, modules, functions and arguments."""

import ast
import re
import tomllib
from functools import cache
from importlib import import_module
from inspect import signature

import pytest
import typer
from support.pages import PYTHON, ROOT, SHELL, blocks, commands, prose

import specxr
from specxr.cli import app
from specxr.cli.options import parse_options

PAGES = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PAGES])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"specxr(?:\.[A-Za-z_]\w*)+(?::[A-Za-z_]\w*)?")
_FILE = re.compile(r"(?:specxr|tests|recipes|docs)/[\w./-]*\w/?")


def shell_lines(text):
    """Commands of the shell in the blocks, as lists of words."""
    for block in blocks(text):
        if block.language in SHELL:
            yield from commands(block)


@cache
def resolve(name):
    """The object that a dotted name, or ``module:name``, of the package means."""
    parts = name.replace(":", ".").split(".")
    value = import_module(parts[0])
    for i, part in enumerate(parts[1:], start=2):
        try:
            value = getattr(value, part)
        except AttributeError:
            value = import_module(".".join(parts[:i]))
    return value


def parse_command(words):
    """Parse a command line of the program with the objects of its own parser, without running it."""
    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands"):
        assert set(rest[:1]) & set(command.commands), f"{' '.join(words)}: there is no such command"
        command, rest = command.commands[rest[0]], rest[1:]
    return None if "--help" in rest else command.make_context(command.name, list(rest))


def slug(heading):
    """The anchor that a heading has on a page of a forge."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request):
    return request.param


def test_links_resolve(document):
    for link in _LINK.findall(prose(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_units_and_errors_are_written_in_one_way(document):
    """Angstrom and +-, as everybody can type them."""
    assert not set("±Å") & set(document.read_text())


def test_named_files_exist(document):
    for code in _INLINE.findall(prose(document.read_text())):
        for name in _FILE.findall(code) if _FILE.match(code) else ():
            assert (ROOT / name).exists(), name


def test_named_modules_and_functions_exist(document):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for code in _INLINE.findall(prose(document.read_text())):
        for name in _NAME.findall(code) if _NAME.match(code) else ():
            if name not in groups:
                resolve(name)


def test_commands_have_these_options(document):
    """Every `specxr COMMAND ...` of a block is one that the program accepts, options of the estimator included."""
    for words in shell_lines(document.read_text()):
        context = parse_command(words) if words[0] == "specxr" else None
        if context is None or not context.params.get("option"):
            continue
        method = context.params["estimator"]
        openers = {"lasp": [specxr.LASP], "hybrid": [specxr.Hybrid.open]}
        # The name of a model file does not say which method it belongs to.
        known = {
            name
            for opener in openers.get(
                method, [specxr.Payne, specxr.SLAM, specxr.Regressor, specxr.LanguageModel]
            )
            for name in signature(opener).parameters
        }
        unknown = set(parse_options(context.params["option"])) - known
        assert not unknown, f"{' '.join(words)}: no such option of {method}: {unknown}"


def test_scripts_and_targets_exist(document):
    """Every `python SCRIPT`, `pytest FILE` and `make TARGET` of a block is there, with these options."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for words in shell_lines(document.read_text()):
        if words[0] == "make":
            assert words[1] in targets, words
        if words[0] in ("python", "pytest") and not words[1].startswith("-"):
            script = ROOT / words[1]
            assert script.is_file(), words
            options = [word.strip("[]") for word in words[2:] if word.strip("[").startswith("--")]
            missing = [option for option in options if f'"{option}"' not in script.read_text()]
            assert not missing, f"{words}: {missing}"


def test_python_blocks_name_what_exists(document):
    """Python blocks compile; what they import, and what they pass to functions of ours by name, exists."""
    for block in blocks(document.read_text()):
        if block.language not in PYTHON:
            continue
        tree = ast.parse(block.text)
        ours = {"specxr": "specxr"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == "specxr":
                        resolve(alias.name)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "specxr":
                for alias in node.names:
                    ours[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for name in ours.values():
            resolve(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Call):
                _check_use(node, ours)


def _check_use(node, ours):
    name = _dotted(node.func if isinstance(node, ast.Call) else node, ours)
    if name is None:
        return
    value = resolve(name)
    if isinstance(node, ast.Call):
        parameters = signature(value).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            unknown = {keyword.arg for keyword in node.keywords} - set(parameters)
            assert not unknown, f"{name} has no argument {unknown}"


def _dotted(node, ours):
    """The full name of an expression such as ``specxr.cluster.connect``; None where it is not one of ours."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in ours:
        return None
    return ".".join([ours[node.id], *reversed(parts)])


def test_the_page_of_the_house_names_every_file():
    """Every file of the package has its line in docs/design/house.md."""
    page = (ROOT / "docs" / "design" / "house.md").read_text()
    listed, room = set(), ""
    for line in page[page.index("## Files") :].partition("## New things")[0].splitlines():
        if re.fullmatch(r"\w+/", line):
            room = "" if line == "specxr/" else line
        elif match := re.match(r"  (\S+\.py) ", line):
            listed.add(room + match[1])
    package = ROOT / "specxr"
    files = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert listed == files


def test_the_code_names_documents_that_exist():
    for folder in ("specxr", "recipes", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text()):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"
