"""The site builds without a warning: pages in lists, directives, docstrings. Its notebooks are run by test_how_to."""

import os
import subprocess
import sys

import pytest
from support.pages import ROOT

import specxr.plotting


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("myst_nb", reason="the site is not built: pip install 'specxr[docs]'")
    settings = ["nb_execution_mode=off", "suppress_warnings=myst-nb.lexer"]
    words = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "dummy"]
    words += [word for setting in settings for word in ("-D", setting)]
    done = subprocess.run(
        [sys.executable, *words, ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_the_gallery_has_every_figure():
    gallery = (ROOT / "docs" / "reference" / "gallery.md").read_text()
    figures = [name for name in specxr.plotting.__all__ if name.startswith("plot_")]
    assert [name for name in figures if f"{name}(" not in gallery] == []
