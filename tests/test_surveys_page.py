"""The page of surveys works as it is read: commands ingest, fit and export real files, Python runs after them."""

from __future__ import annotations

from support.pages import PYTHON, ROOT, blocks, commands
from support.program import ok

import specxr


def test_the_page_works_on_real_files(shared, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "shared").symlink_to(shared.parent.resolve())
    monkeypatch.chdir(tmp_path / "work")
    names = {"__name__": "__main__"}
    for block in blocks((ROOT / "docs/reference/surveys.md").read_text()):
        if block.not_run:
            continue
        if block.language in PYTHON:
            exec(compile(block.text, "surveys.md", "exec"), names)
        for words in commands(block) if block.language == "" else ():
            ok(*words[1:])
    sizes = {path.stem: dict(specxr.open_cube(path).sizes) for path in (tmp_path / "work").glob("*.zarr")}
    assert sizes["boss"]["star"] == 11
    assert sizes["desi"]["star"] == sizes["coarse"]["star"] == 5
    assert sizes["coarse"]["wavelength"] == 3909
    assert (sizes["apogee"]["star"], sizes["aspcap"]["star"], sizes["other"]["star"]) == (2, 6, 2)
    for name in ("boss", "desi"):
        table = specxr.cubes.tables.read_table(f"{name}.csv")
        assert len(table) == sizes[name]["star"]
        assert {"teff", "teff_err", "result"} <= set(table)
    assert names["cube"].sizes["star"] == 11
