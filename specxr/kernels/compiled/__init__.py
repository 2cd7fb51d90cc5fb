"""The kernels of a LASP fit for the CPU: one star at a time, compiled by numba.

All that one evaluation of the model touches lies in the processor's caches, a kernel is as wide as the star needs it,
and no star can meet another: results are the same to the bit for any block. The kernels in torch, for GPUs, are the
same mathematics for many stars at once.
"""
