"""Bulk runs: the blocks of a cube fitted on a Dask cluster, with a ledger of what is done."""
