"""The site: `make docs` builds it into docs/_build/html, and a warning is an error."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

project = "specxr"
author = "The specxr developers"
release = version = version_of("specxr")

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_design", "commands"]
exclude_patterns = ["_build"]
# Pages link to headings as they do on a forge.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"  # what a cache keeps is not made anew when the package changes
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give the types

html_theme = "pydata_sphinx_theme"
html_title = "specxr"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
