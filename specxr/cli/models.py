"""The commands that train models and look into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specxr.cli.examples import epilog
from specxr.cli.options import Options, parse_options
from specxr.cli.progress import progress_bar

models = typer.Typer(help="Look into trained models.", no_args_is_help=True, rich_markup_mode=None)


def train(
    # Not a Path, which makes one slash of the two of a URL.
    cube: Annotated[
        str,
        typer.Argument(
            metavar="CUBE.zarr",
            help="Path or s3://... of normalised spectra with labels, at rest or with rv.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FILE.safetensors", help="Where the model goes.")],
    estimator: Annotated[
        str, typer.Option(metavar="NAME", help="The method, such as payne or slam.")
    ] = "payne",
    option: Options = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Labels to learn; all that the cube has if not given.", show_default=False
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            min=0, help="Number of parts of the cross-validation that calibrates the errors; 0 for none."
        ),
    ] = 0,
    snr: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Range of S/N to which spectra of the cross-validation are degraded.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="File that keeps the training while it lasts (payne).")
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="The device that computes.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Train a model on spectra with known labels."""
    from specxr.cubes.processes import check_limits

    check_limits()  # before the libraries, which fail in words of their own

    import specxr
    from specxr.content import check_writable

    untrained: Any = specxr.open_estimator(estimator, **{"device": device, **parse_options(option)})
    if not hasattr(untrained, "fit"):
        raise ValueError(f"{estimator} is not trained; a method that learns is required. Use payne or slam.")
    untrained.check_path(out, overwrite)
    if checkpoint is not None:
        check_writable(checkpoint)
    spectra = specxr.open_cube(cube)
    with progress_bar("training", "steps") as (bar, task):
        fitted = specxr.train(
            spectra,
            untrained,
            labels.split(",") if labels else None,
            folds=folds,
            snr=snr,
            checkpoint=checkpoint,
            progress=lambda done, total, error: bar.update(
                task, completed=done, total=total, description=f"training, {untrained.tells} {error:.4g}"
            ),
        )
    fitted.save(out, overwrite=overwrite)
    typer.echo(f"{spectra.sizes['star']:,} stars, {', '.join(fitted.model.labels)}: {out}")
    _calibration(fitted.model.describe()["calibration"])


@models.command(epilog=epilog("models info"))
def info(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="A model file that `specxr train` made.")],
) -> None:
    """Show what a model is: labels and ranges, grid, normalisation, training, errors, hash."""
    from specxr.estimators.model_file import describe_model

    content = describe_model(model)
    table = Table(box=None, show_header=False)
    low, high = content["wavelength"]
    rows = {
        "model": str(model),
        "kind": content["kind"],
        "wavelength": f"{low:.1f}-{high:.1f} Angstrom, {content['medium']}",
        "sampling": f"{content['sampling']}, step {content['step']:g}",
        "line spread": content["line_spread"] or "unknown",
        "normalisation": content["normalisation"] or "none",
        **{f"option {name}": str(value) for name, value in content["options"].items()},
        **{f"training {name}": str(value) for name, value in content["training"].items()},
        **{f"version of {name}": value for name, value in content["versions"].items()},
        "sha256": content["sha256"],
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    console = Console()
    console.print(table)
    ranges = Table("label", "from", "to", box=box.SIMPLE)
    for name, (lower, upper) in content["bounds"].items():
        ranges.add_row(name, f"{lower:g}", f"{upper:g}")
    console.print(ranges)
    _calibration(content["calibration"])


def _calibration(calibration: dict[str, Any] | None) -> None:
    """Print what cross-validation says."""
    from specxr.vocabulary import LABELS

    if calibration is None:
        typer.echo("errors are formal: no cross-validation (--folds)")
        return
    low, high = calibration["snr_range"]
    table = Table(
        "held out", "bias", "scatter", "scatter at S/N", "within 1 sigma", "pulls", box=box.SIMPLE,
        title=f"{calibration['n_star']:,} stars in {calibration['folds']} folds, S/N {low:.0f}-{high:.0f}",
    )  # fmt: skip
    for name, label in calibration["labels"].items():
        law = label["observed"]
        table.add_row(
            escape(f"{name} [{LABELS[name].units}]"),
            f"{label['bias']:+.3g}",
            f"{label['scatter']:.3g}",
            f"{law['a']:.3g} + {law['b']:.3g} / SNR^{law['c']:.2f}",
            f"{label['coverage']:.1%}",
            f"{label['pull_scatter']:.2f}",
        )
    Console().print(table)
