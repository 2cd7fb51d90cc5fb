PYTHON ?= python3
INSTALLED := .venv/.installed

.PHONY: demo test docs

demo: $(INSTALLED)
	.venv/bin/specxr demo --out demo --overwrite

test: $(INSTALLED)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest

docs: $(INSTALLED)
	.venv/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# torch comes first and by itself: resolved together with the rest, pip may choose a build with CUDA, of gigabytes.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install torch==2.13.0
	.venv/bin/pip install -c constraints.txt -e '.[test,docs]'
	touch $(INSTALLED)
