"""The directive `specxr-commands`: every command of the program with its arguments and options, from the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from specxr.cli import app


def commands(command: Any, name: str = "specxr") -> Iterator[tuple[str, Any]]:
    """Name and object of each command, those of groups of commands included."""
    for word, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {word}")
    if not hasattr(command, "commands"):
        yield name, command


def _text(text: str) -> nodes.paragraph:
    """A paragraph, in which words between backticks are code."""
    paragraph = nodes.paragraph()
    for i, part in enumerate(re.split(r"`+([^`]+)`+", " ".join(text.split()))):
        if part:
            paragraph += nodes.literal(text=part) if i % 2 else nodes.Text(part)
    return paragraph


def _help(text: str) -> Iterator[nodes.Node]:
    r"""Paragraphs of a help text; after \b its lines stay as they are, and indented lines are commands."""
    for piece in re.split(r"\n\s*\n", text.replace("\f", "")):
        lines = [line for line in piece.splitlines() if line.strip("\b ")]
        if "\b" in piece or (lines and all(line.startswith("  ") for line in lines)):
            yield nodes.literal_block(text="\n".join(line.strip("\b ") for line in lines), language="text")
        elif lines:
            yield _text(piece)


def _parameter(names: str, about: str) -> nodes.definition_list_item:
    term = nodes.term("", "", nodes.literal(text=names))
    return nodes.definition_list_item("", term, nodes.definition("", _text(about)))


def section(name: str, command: Any) -> nodes.section:
    """The section of one command."""
    context = typer.Context(command, info_name=name)
    made = nodes.section(ids=[nodes.make_id(name)])
    made += nodes.title(text=name)
    for part in _help(command.help or ""):
        made += part
    usage = " ".join(command.collect_usage_pieces(context))
    made += nodes.literal_block(text=f"{name} {usage}", language="text")
    listed = nodes.definition_list()
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            listed += _parameter(*record)
    made += listed
    return made


class Commands(SphinxDirective):
    """Sections of all commands."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        return [section(name, command) for name, command in commands(typer.main.get_command(app))]


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    sphinx.add_directive("specxr-commands", Commands)
    return {"parallel_read_safe": True}
