"""The command that shows a run in a browser."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from specxr.cli.options import Cube
from specxr.cli.plot import only_run


def view(
    cube: Cube,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Run to look at; the only one, or lasp, if not given."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes a free one.")
    ] = 5006,
) -> None:
    """Serve a page with the Kiel diagram of a run, where stars are chosen to see their spectra."""
    from specxr.cubes.locations import readable
    from specxr.cubes.store import list_runs

    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise ImportError(
            "bokeh is not installed; it is required for the page. Install it: pip install 'specxr[dashboard]'."
        ) from error
    from specxr.plotting.view import KielView

    with readable(cube):
        name = run or only_run(list_runs(cube))
        if name is None:
            raise ValueError(
                f"{cube} has no runs; a run with teff and logg is required. Make one with specxr infer."
            )
        page = KielView(cube, name).page
    try:
        # Tried first: tornado leaves the socket open that it cannot bind.
        socket.create_server(("127.0.0.1", port)).close()
        server = Server({"/": page}, address="127.0.0.1", port=port)
    except OSError as error:
        raise OSError(
            f"the port {port} cannot be opened ({error.strerror}); a free port is required. Choose one with --port, "
            "or give --port 0."
        ) from error
    typer.echo(f"http://localhost:{server.port}/ shows {cube}::{name} until Ctrl-C ends it.")
    server.run_until_shutdown()
