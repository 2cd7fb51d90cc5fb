"""Examples at the end of the help of each command."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "calibrate": ("specxr calibrate dr10.zarr --floor rv=1.5 --floor teff=20 --as calibrated",),
    "compare": (
        "specxr compare labels.fits catalogue.csv",
        "specxr compare dr10.zarr::lasp dr10.zarr::payne --figure comparison.png",
        "specxr compare labels.fits gaia.parquet --radius '3 arcsec'",
    ),
    "demo": ("specxr demo", "specxr demo --stars 500 --out small"),
    "doctor": ("specxr doctor",),
    "export": (
        "specxr export dr10.zarr --out labels.fits",
        "specxr export dr10.zarr --out labels.hats --converged",
        "specxr export dr10.zarr --out hot.parquet --with snr_g --where 'teff > 8000'",
    ),
    "gradient": ("specxr gradient dr10.zarr::payne --catalogue gaia.fits --figure gradient.png",),
    "infer": (
        "specxr infer dr10.zarr",
        "specxr infer dr10.zarr --name careful -o clean -o two_stage --workers 8",
        "specxr infer dr10.zarr --estimator payne.safetensors --where 'snr_g > 20'",
    ),
    "info": ("specxr info dr10.zarr", "specxr info dr10.zarr --check"),
    "ingest": (
        "specxr ingest lamost-lrs spectra/ --out dr10.zarr",
        "specxr ingest lamost-lrs night/ --out dr10.zarr --append",
        "specxr ingest specutils *.txt --format ASCII --medium air --out mine.zarr",
    ),
    "models info": ("specxr models info payne.safetensors",),
    "plot": (
        "specxr plot dr10.zarr 101001",
        "specxr plot dr10.zarr --where 'snr_g > 100' --run lasp --out figures",
    ),
    "report": ("specxr report dr10.zarr --name lasp --out report.html",),
    "runs": ("specxr runs dr10.zarr", "specxr runs dr10.zarr --rename lasp first"),
    "select": (
        "specxr select dr10.zarr --catalogue gaia.fits --out hot.csv",
        "specxr select dr10.zarr --name payne --require hot --out hot.csv",
    ),
    "synthesize": (
        "specxr synthesize --out training.zarr",
        "specxr synthesize --stars 500 --label teff=5000:7000 --out cool.zarr",
    ),
    "train": (
        "specxr train training.zarr --out payne.safetensors",
        "specxr train training.zarr --estimator slam --folds 5 --out slam.safetensors",
    ),
    "view": ("specxr view dr10.zarr", "specxr view dr10.zarr --run lasp --port 8888"),
}


def epilog(command: str) -> str | None:
    """Examples of a command, one in each line, as the help prints them."""
    lines = EXAMPLES.get(command, ())
    # The mark keeps click from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
