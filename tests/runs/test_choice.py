"""Some stars of a cube are fitted, and the others stay as they are: by infer, by run, and with a run that goes on."""

import numpy as np
import pytest
from support.fakes import RAISE, Mean, fake_cube, write_fake_cube
from support.program import ok, refused

import specxr
from specxr.cubes.choice import where
from specxr.vocabulary import Result


@pytest.fixture
def cube(tmp_path):
    return write_fake_cube(
        tmp_path / "c.zarr", 20, star_chunk=5, snr_g=np.arange(20.0), subclass=["A0", "F5"] * 10
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_infer_leaves_the_others_unfitted(lazy):
    whole = fake_cube(20)
    chosen = np.arange(20) % 3 == 0
    expected = specxr.infer(whole, Mean(), spectra=True)
    some = specxr.infer(whole.chunk(star=6) if lazy else whole, Mean(), stars=chosen, spectra=True)
    assert bool(some.chunks) == lazy
    assert ((some["result"] == Result.NOT_FITTED) == ~chosen).all()
    for name in ("teff", "covariance", "model", "used"):
        np.testing.assert_array_equal(some[name][chosen], expected[name][chosen])
    assert some["teff"][~chosen].isnull().all()
    assert some["model"][~chosen].isnull().all()
    assert not some["used"][~chosen].any()
    by_obsid = specxr.infer(whole, Mean(), stars=whole["obsid"].values[chosen][::-1])
    np.testing.assert_array_equal(by_obsid["teff"], some["teff"])
    assert (specxr.infer(whole, Mean(), stars=np.zeros(20, bool))["result"] == Result.NOT_FITTED).all()


def test_labels_are_merged_with_their_cube():
    cube = fake_cube(4)
    both = specxr.infer(cube.chunk(star=2), Mean(), merge=True)
    assert {"flux", "teff", "result"} <= {*both}
    assert both.attrs["estimator"] == "Mean"
    np.testing.assert_array_equal(both["teff"], specxr.infer(cube, Mean())["teff"])
    with pytest.raises(ValueError, match=r"variables of the names of labels .*teff.*cube.rename"):
        specxr.infer(both, Mean(), merge=True)


def test_a_run_fits_the_chosen_stars_and_reads_no_block_without_one(cube, tmp_path):
    log = tmp_path / "log"
    chosen = np.isin(np.arange(20), [1, 3, 12])
    summary = specxr.run(cube, Mean(str(log)), name="a", stars=chosen, spectra=True)
    assert summary.results == {"converged": 3, "not_fitted": 17}
    assert summary.complete
    assert sorted(log.read_text().split("\n")) == ["", "1 2", "12 1"]
    labels = specxr.open_labels(cube, "a")
    expected = specxr.infer(specxr.open_cube(cube), Mean(), stars=chosen, spectra=True)
    for name in ("teff", "result", "model", "used", "covariance"):
        np.testing.assert_array_equal(labels[name], expected[name])


def test_a_run_goes_on_with_the_same_stars_only(cube):
    summary = specxr.run(cube, Mean(), name="a", stars=[1001, 1013])
    assert summary.n_fitted == 20
    assert specxr.run(cube, Mean(), name="a", stars=np.isin(np.arange(20), [1, 13])).n_fitted == 0
    for stars in (None, [1001], [1001, 1013, 1014]):
        with pytest.raises(ValueError, match="the choice of stars"):
            specxr.run(cube, Mean(), name="a", stars=stars)
    with pytest.raises(ValueError, match="none of the 20 stars is chosen"):
        specxr.run(cube, Mean(), name="b", stars=np.zeros(20, bool))
    with pytest.raises(ValueError, match="1 obsids are not in the cube"):
        specxr.run(cube, Mean(), name="b", stars=[1001, 5])


def test_a_star_that_is_not_chosen_cannot_do_harm(tmp_path):
    path = write_fake_cube(tmp_path / "c.zarr", 10, star_chunk=5, faults={3: RAISE})
    assert specxr.run(path, Mean(), name="a", stars=np.arange(10) != 3).complete


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("snr_g > 10", range(11, 20)),
        ("snr_g > 10 and subclass == 'A0'", range(12, 20, 2)),
        ("not snr_g > 1 or obsid == 1005", (0, 1, 5)),
        ("subclass in ['A0'] and snr_g * 2 < 5", (0, 2)),
        ("subclass.str.startswith('F') and snr_g < 4", (1, 3)),
    ],
)
def test_conditions_choose_stars(cube, condition, expected):
    assert np.flatnonzero(where(specxr.open_cube(cube), condition)).tolist() == list(expected)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("snr_g >", "cannot be read"),
        ("snrg > 3", r"names 'snrg'; .* such as snr_g"),
        ("flux > 3", "names 'flux'"),
        ("snr_g + 1", "is float64 of shape"),
        ("snr_g > 'x'", "cannot be applied"),
        ("True", "is bool of shape"),
        ("A0 == subclass", "names 'A0'.*text in quotes"),
    ],
)
def test_a_wrong_condition_is_one_line(cube, condition, words):
    with pytest.raises(ValueError, match=words) as error:
        where(specxr.open_cube(cube), condition)
    assert "\n" not in str(error.value)
    assert str(cube) not in refused("infer", cube, "--where", condition)


def test_lists_of_obsids_choose_stars(tmp_path):
    from specxr.cubes.choice import read_obsids

    text = tmp_path / "list.txt"
    text.write_text("# mine\n1003\n\n1001 a remark\n")
    table = tmp_path / "list.csv"
    table.write_text("obsid,teff\n1003,5000\n1001,6000\n")
    assert read_obsids(text).tolist() == read_obsids(table).tolist() == [1003, 1001]
    text.write_text("HD 1\n")
    with pytest.raises(ValueError, match="is no list of obsids"):
        read_obsids(text)
    table.write_text("name\n1\n")
    with pytest.raises(ValueError, match="columns name; .*column obsid"):
        read_obsids(table)


def test_the_command_fits_what_is_chosen_and_shows_it(tmp_path):
    cube = tmp_path / "s.zarr"
    survey = specxr.synthesis.simulate_survey(6, seed=3).load()
    specxr.write_cube(survey.assign(snr_g=("star", np.arange(6.0))), cube)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, survey["obsid"].values[[0, 3, 4]])))
    ok("infer", cube, "--where", "snr_g > 2", "--obsid", listed, "--name", "some")
    fitted = specxr.open_labels(cube, "some")["result"].values != Result.NOT_FITTED
    assert fitted.tolist() == [False, False, False, True, True, False]
    for text in (ok("runs", cube), ok("info", cube)):
        words = " ".join(text.split())
        assert "some: LASP, emulator default" in words
        assert "window=[4200.0, 5700.0]" in words
        assert "2 stars fitted: 2 converged (100.0%), 4 not_fitted" in words
        assert specxr.open_labels(cube, "some").attrs["date"] in words
    assert "none of the 6 stars meets" in refused("infer", cube, "--where", "snr_g > 99")


@pytest.mark.parametrize("where_it_lies", ["disk", "bucket"])
def test_runs_are_renamed_and_deleted(where_it_lies, tmp_path, request):
    path = str(tmp_path / "c.zarr")
    if where_it_lies == "bucket":
        path = request.getfixturevalue("bucket") + "/c.zarr"
    write_fake_cube(path, 10, star_chunk=5)
    specxr.run(path, Mean(), name="a")
    specxr.run(path, Mean(scale=2.0), name="b")
    before = specxr.open_labels(path, "a").load()
    assert "is now" in ok("runs", path, "--rename", "a", "c")
    assert specxr.list_runs(path) == ["b", "c"]
    assert specxr.open_labels(path, "c").load().identical(before)
    assert specxr.run(path, Mean(), name="c").n_fitted == 0
    assert "labels 'b' already" in refused("runs", path, "--rename", "c", "b")
    assert "no labels 'a' (runs: b, c)" in refused("runs", path, "--rename", "a", "d")
    assert "cannot name a run" in refused("runs", path, "--rename", "b", "../b")
    assert "is deleted" in ok("runs", path, "--delete", "b", "--delete", "c")
    assert specxr.list_runs(path) == []
    assert "no labels yet" in ok("runs", path)
    specxr.run(path, Mean(), name="a")


def test_a_run_that_is_written_is_neither_renamed_nor_deleted(cube, client):
    specxr.run(cube, Mean(), name="b")

    def disturb(summary):
        for words in (("--rename", "a", "x"), ("--rename", "b", "a"), ("--delete", "a")):
            assert "is being written" in refused("runs", cube, *words)

    specxr.run(cube, Mean(), name="a", client=client, progress=disturb)
    assert specxr.list_runs(cube) == ["a", "b"]
