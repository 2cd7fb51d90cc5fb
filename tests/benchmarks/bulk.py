"""Print what a bulk run costs: writing a simulated cube, fitting part of it with 1 and 2 workers, and what is overhead.

    python tests/benchmarks/bulk.py [--stars 1000000] [--fit 100000] [--folder DIR]

The cube (13 kB for each star, 4200-5700 A) is written to a temporary folder in DIR, which is removed at the end. Its
stars have the spectral types of a survey: those of the 37,724 stars from A to K of LAMOST in table 5 of the
language-model paper. With ``--uniform``, a third of them are hotter than 7,000 K, whose fits take longer. Two
workers stop when they have fitted ``--fit`` stars, one worker after a fifth of them. The rates by the clock do not
count the first block, which has the cluster to itself, and the blocks at work at the end; those by CPU time, which
depend less on what else the machine does, do not count the start of the workers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dask
import psutil
from distributed import Client

import specxr
from specxr.cubes.group import open_group
from specxr.cubes.layout import Layout, choose_layout, describe_layout, layout_of
from specxr.cubes.locations import size_of
from specxr.cubes.store import write_cube
from specxr.published.language_abundances import ABUNDANCE_TEST_SPECTRA
from specxr.runs import cluster, ledger
from specxr.runs.run import Run
from specxr.runs.summary import Summary
from specxr.runs.worker import peak_memory
from specxr.synthesis.survey import simulate_bulk

SHARES = {name: ABUNDANCE_TEST_SPECTRA[name] for name in "KGFA"}
STAR_BYTES = 1327 * 10  # flux and ivar in float32, mask in uint16


class Enough(Exception):
    """Enough stars are fitted."""


def usage() -> dict[str, float]:
    """CPU time [s], and bytes read and written, of this process so far."""
    process = psutil.Process()
    cpu, io = process.cpu_times(), process.io_counters()
    return {"cpu": cpu.user + cpu.system, "read": io.read_chars, "written": io.write_chars}


def cpu_of(client: Client) -> float:
    """CPU time [s] of all workers so far."""
    return sum(one["cpu"] for one in client.run(usage).values())


def make(path: Path, n_stars: int, small: bool, uniform: bool) -> None:
    layout = choose_layout(n_stars, STAR_BYTES)
    if small:
        layout = Layout(chunk=10)
    before, start = usage(), time.perf_counter()
    cube = simulate_bulk(
        n_stars, layout.block, n_models=20 if small else 2000, shares=None if uniform else SHARES
    )
    with dask.config.set(num_workers=2):
        write_cube(cube, path, star_chunk=layout.chunk, star_shard=layout.shard)
    seconds, cpu = time.perf_counter() - start, usage()["cpu"] - before["cpu"]
    size, stored = n_stars * STAR_BYTES / 1e9, size_of(path) / 1e9
    hot = float((cube["true_teff"] > 7000.0).mean())
    print(
        f"cube: {n_stars:,} stars, {hot:.1%} above 7,000 K, in {describe_layout(layout, STAR_BYTES)}\n"
        f"  {size:.2f} GB, on disk {stored:.2f} GB; peak memory {peak_memory() / 1e6:,.0f} MB\n"
        f"  {seconds:.0f} s, {n_stars / seconds:,.0f} stars/s, {1e3 * size / seconds:,.0f} MB/s; {cpu:.0f} CPU s",
        flush=True,
    )


def fit(path: Path, n_workers: int, n_fit: int) -> tuple[float, float]:
    """Print one row; returns stars a second, by the clock and by CPU."""
    name = f"workers-{n_workers}"
    block, n_stored = layout_of(open_group(path)).block, open_group(path)["flux"].shape[0]
    # The first block alone, then whole rounds of all workers, so that little is under way when it stops.
    n_blocks = 1 + n_workers * -(-n_fit // (block * n_workers))
    enough = min(n_blocks * block, n_stored)

    begun: dict[str, float] = {}  # what there was when the workers had started and each had done a block

    def stop(summary: Summary) -> None:
        if not begun and summary.n_fitted >= n_workers * block:
            begun["stars"], begun["cpu"] = summary.n_fitted, cpu_of(client)
        if summary.n_fitted >= enough:
            begun["rate"] = (summary.n_fitted - begun["stars"]) / max(cpu_of(client) - begun["cpu"], 1e-9)
            raise Enough

    with cluster.local(n_workers) as client:
        client.run(lambda: __import__("specxr.runs.driver"))  # imports do not count as part of a block
        before, mine = client.run(usage), usage()
        try:
            specxr.run(path, specxr.LASP(), name=name, client=client, progress=stop)
        except Enough:
            pass
        after, mine_after = client.run(usage), usage()
    done = [b for b in Run.at(path, name).read_ledger().blocks if b.state == ledger.DONE]
    first, *others = sorted(done, key=lambda block: block.finished)
    # From the end of the first block to the end of the last: workers do whole blocks, and less than one is cut off.
    wall = others[-1].finished - first.finished
    stars, kernel = sum(b.n_stars for b in others), sum(b.fit_seconds for b in others)
    busy = sum(b.seconds for b in others)
    used = {key: sum(after[w][key] - before[w][key] for w in after) for key in mine}
    waiting = max(n_workers * wall - busy, 0.0)
    total, rate = sum(block.n_stars for block in done), begun["rate"]
    print(
        f"{n_workers} workers: {total:,} stars in {len(done)} blocks, load {os.getloadavg()[0]:.1f}\n"
        f"  {stars / wall:,.0f} stars/s; {rate:,.0f} stars per CPU s of the workers\n"
        f"  of kernel time: reading and writing {busy / kernel - 1.0:.1%}, waiting for blocks {waiting / kernel:.1%}\n"
        f"  workers read {used['read'] / 1e9:.2f} GB and wrote {used['written'] / 1e6:.0f} MB; "
        f"driver {mine_after['cpu'] - mine['cpu']:.1f} CPU s\n"
        f"  peak memory of a worker {max(b.peak_memory for b in done) / 1e6:,.0f} MB, "
        f"of the driver {peak_memory() / 1e6:,.0f} MB",
        flush=True,
    )
    return stars / wall, rate


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=1_000_000)
    parser.add_argument("--fit", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="folder for the cube, which is removed")
    parser.add_argument("--uniform", action="store_true", help="a third of the stars are hotter than 7,000 K")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    if options.small:
        options.stars, options.fit = 60, 20
    print(
        f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB; load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "bulk.zarr")
        make(path, options.stars, options.small, options.uniform)
        one, one_cpu = fit(path, 1, options.fit // 5)
        # A second cluster would take as long again to start, and show nothing else.
        two, two_cpu = (one, one_cpu) if options.small else fit(path, 2, options.fit)
    print(
        f"2 workers are {two / one:.2f} times as fast as 1 by the clock, {2 * two_cpu / one_cpu:.2f} by CPU time; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for cores, what in ((2, "2 cores"), (100 * 64, "100 nodes of 64 cores")):
        minutes = 1e7 / (one_cpu * cores) / 60.0
        print(f"10 million stars on {what}: {minutes:,.1f} min, at {one_cpu:,.0f} stars per core and second")


if __name__ == "__main__":
    main()
