"""HATS catalogues: each star once, in the file of its place, sorted; every star near a border in a margin."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from support.fakes import Mean, write_fake_cube
from support.program import ok, refused

import specxr
from specxr.cubes import hats

healpix = pytest.importorskip("astropy_healpix", reason="no astropy-healpix: pip install 'specxr[hats]'")


@pytest.fixture
def labels():
    rng = np.random.default_rng(5)
    n = 4000
    ra, dec = rng.uniform(0, 360, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    ra[:3], dec[3] = np.nan, 95.0
    stars = {"teff": rng.uniform(4000, 8000, n), "result": np.zeros(n, "u1"), "flags": np.zeros(n, "u2")}
    coords = {"obsid": np.arange(n), "ra": ra, "dec": dec}
    return xr.Dataset(
        {name: ("star", values) for name, values in stars.items()},
        coords={name: ("star", values) for name, values in coords.items()},
        attrs={"estimator": "LASP"},
    )


def files(folder):
    found = {}
    for path in sorted(folder.rglob("Npix=*.parquet")):
        order, number = int(path.parts[-3].partition("=")[2]), int(path.stem.partition("=")[2])
        found[order, number] = pq.read_table(path).to_pandas()
    return found


@pytest.mark.parametrize("block", [500, 65_536])
def test_every_star_is_where_it_belongs(labels, tmp_path, monkeypatch, block):
    monkeypatch.setattr(hats, "_BLOCK", block)
    beside = xr.Dataset({"subclass": ("star", ["A0", "F5"] * 2000)}, coords={"obsid": labels["obsid"]})
    out = tmp_path / "mine.hats"
    assert hats.write_hats(labels.chunk(star=700), out, beside, rows=200, margin="1 deg") == 3996
    partitions = files(out / "mine")
    obsid = np.concatenate([table["obsid"] for table in partitions.values()])
    assert sorted(obsid) == list(range(4, 4000))
    assert max(map(len, partitions.values())) <= 200
    for (order, number), table in partitions.items():
        pixels = table["_healpix_29"].to_numpy()
        assert (pixels >> (2 * (29 - order)) == number).all()
        assert (np.diff(pixels) >= 0).all()
        np.testing.assert_array_equal(table["teff"], labels["teff"].values[table["obsid"]])
        assert (table["subclass"] == np.where(table["obsid"] % 2, "F5", "A0")).all()
    info = (out / "mine" / "partition_info.csv").read_text().split()
    assert set(info[1:]) == {f"{order},{number}" for order, number in partitions}
    assert len(info) == len(partitions) + 1
    metadata = pq.read_metadata(out / "mine" / "dataset" / "_metadata")
    assert metadata.num_rows == 3996
    field = pq.read_schema(out / "mine" / "dataset" / "_common_metadata").field("teff")
    assert field.metadata == {b"unit": b"K", b"description": b"effective temperature"}


def test_a_star_near_a_border_is_in_the_margin_of_the_other_side(labels, tmp_path):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    out = tmp_path / "mine.hats"
    hats.write_hats(labels, out, rows=200, margin="1 deg")
    partitions, margins = files(out / "mine"), files(out / "mine_3600arcs")
    home = {obsid: place for place, table in partitions.items() for obsid in table["obsid"]}
    sky = SkyCoord(labels["ra"].values[4:] * u.deg, labels["dec"].values[4:] * u.deg)
    first, second, _, _ = sky.search_around_sky(sky, 1.0 * u.deg)
    there = {(place, obsid) for place, table in margins.items() for obsid in table["obsid"]}
    pairs = [(home[a], b) for a, b in zip(first + 4, second + 4, strict=True) if home[a] != home[b]]
    assert len(pairs) > 30
    assert set(pairs) <= there
    assert not any(home[obsid] == place for place, obsid in there)


def test_lsdb_opens_it(labels, tmp_path):
    lsdb = pytest.importorskip(
        "lsdb", reason="lsdb is not installed beside specxr; docs/how-to/crossmatch.md"
    )
    hats.write_hats(labels, tmp_path / "mine.hats", rows=500)
    catalogue = lsdb.open_catalog(tmp_path / "mine.hats")
    assert len(catalogue.compute()) == 3996
    assert catalogue.margin is not None


def test_the_command_writes_a_catalogue(tmp_path):
    rng = np.random.default_rng(1)
    position = {"ra": rng.uniform(0, 9, 20), "dec": np.zeros(20)}
    path = write_fake_cube(tmp_path / "c.zarr", 20, star_chunk=5, snr_g=np.arange(20.0), **position)
    specxr.run(path, Mean(), name="lasp")
    out = tmp_path / "c.hats"
    words = ("export", path, "--out", out, "--with", "snr_g", "--where", "snr_g > 4 and teff > 0")
    assert "15 stars in" in ok(*words)
    assert sum(len(table) for table in files(out / "c").values()) == 15
    assert "--overwrite" in refused(*words)
    ok(*words, "--overwrite", "--converged")
    bare = write_fake_cube(tmp_path / "b.zarr", 4)
    specxr.run(bare, Mean(), name="lasp")
    assert "no ra and dec" in refused("export", bare, "--out", tmp_path / "b.hats")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.zarr", "c.hats", "c.zarr"]
