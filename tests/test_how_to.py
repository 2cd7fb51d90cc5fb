"""The code of the tutorial, of the how-to pages and of the README works: each block is run, in order, on small files.

A block that cannot be run here has a comment before it, `<!-- not run: REASON -->`. Of the shell, the commands of
the program are run; other commands need such a comment.
"""

import matplotlib
import pytest
from support.pages import PYTHON, ROOT, SHELL, blocks, commands, copy_files, make_files
from support.program import ok

DOCS = ROOT / "docs"
GUIDES = sorted([*(DOCS / "how-to").glob("*.md"), *(DOCS / "tutorial").glob("*.md")])
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", DOCS / "reference" / "gallery.md", *GUIDES]


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_lamost):
    folder = tmp_path_factory.mktemp("pages")
    make_files(folder, write_lamost)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, files, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_files(files, tmp_path))
    matplotlib.use("agg")
    names = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.not_run:
            continue
        if block.language in PYTHON:
            exec(compile(block.text, page.name, "exec"), names)
        elif block.language in SHELL:
            for words in commands(block):
                assert words[0] == "specxr", f"{' '.join(words)}: say why it is not run"
                ok(*words[1:])


def test_blocks_that_are_not_run_say_why():
    """The comment belongs to the next block alone."""
    page = (
        "<!-- not run: needs SLURM -->\n\n    sbatch job\n\nText.\n\n    specxr info\n\n```python\n1\n```\n"
    )
    assert [(block.text, block.not_run) for block in blocks(page)] == [
        ("sbatch job", "needs SLURM"),
        ("specxr info", ""),
        ("1", ""),
    ]
