"""Damaged files: a mutation of the bytes of a FITS file, and what must not come of it."""

from __future__ import annotations

import gzip
import re
import time

import numpy as np

from specxr.readers.registry import read_files
from specxr.vocabulary import UNUSABLE

BLOCK = 2880  # bytes; FITS files are made of such blocks
CARD = 80
_NUMBERS = (b"0", b"-1", b"1", b"3", b"999999999999", b"1E300", b"NaN", b"T", b"'text'", b"", b"-64", b"16")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to three kinds of damage."""
    for _ in range(rng.integers(1, 4)):
        content = _MUTATIONS[rng.integers(len(_MUTATIONS))](content, rng) or b"S"
    return content


def _flip(content, rng):
    data = bytearray(content)
    for _ in range(rng.integers(1, 20)):
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _truncate(content, rng):
    return content[: rng.integers(len(content))]


def _delete_block(content, rng):
    at = int(rng.integers(max(len(content) // BLOCK, 1))) * BLOCK
    return content[:at] + content[at + BLOCK :]


def _repeat_block(content, rng):
    at = int(rng.integers(max(len(content) // BLOCK, 1))) * BLOCK
    return content[: at + BLOCK] + content[at:]


def _swap_blocks(content, rng):
    data = bytearray(content)
    one, two = (int(n) * BLOCK for n in rng.integers(max(len(content) // BLOCK, 1), size=2))
    data[one : one + BLOCK], data[two : two + BLOCK] = data[two : two + BLOCK], data[one : one + BLOCK]
    return bytes(data)


def _noise(content, rng):
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 5000))
    return content[:at] + rng.bytes(len(content[at : at + length])) + content[at + length :]


def _not_a_number(content, rng):
    data = bytearray(content)
    for _ in range(rng.integers(1, 200)):
        at = int(rng.integers(max(len(data) // 4, 1))) * 4
        data[at : at + 4] = (b"\x7f\xc0\x00\x00", b"\x7f\x80\x00\x00", b"\xff\xff\xff\xff")[rng.integers(3)]
    return bytes(data)


def _cards(content):
    return [
        match.start() for match in re.finditer(rb"[A-Z0-9_-]{1,8} *= ", content) if match.start() % CARD == 0
    ]


def _change_card(content, rng):
    cards = _cards(content)
    if not cards:
        return content
    at = cards[rng.integers(len(cards))]
    value = _NUMBERS[rng.integers(len(_NUMBERS))]
    card = content[at : at + 10] + value.rjust(20)
    return content[:at] + card.ljust(CARD)[:CARD] + content[at + CARD :]


def _delete_card(content, rng):
    cards = _cards(content)
    if not cards:
        return content
    at = cards[rng.integers(len(cards))]
    return content[:at] + b"COMMENT".ljust(CARD) + content[at + CARD :]


def _pack(content, rng):
    packed = gzip.compress(content, 1, mtime=0)
    return packed[: rng.integers(len(packed))] if rng.integers(2) else packed


_MUTATIONS = (
    _flip,
    _truncate,
    _delete_block,
    _repeat_block,
    _swap_blocks,
    _noise,
    _not_a_number,
    _change_card,
    _change_card,
    _delete_card,
    _delete_card,
    _pack,
)


def without_checksums(content: bytes) -> bytes:
    """The content without the cards that give checksums, so that damage is not found by them."""
    return re.sub(rb"(?:CHECKSUM|DATASUM )= .{70}", b"COMMENT".ljust(CARD), content, flags=re.DOTALL)


def try_files(survey, file, folder, n, seed=0):
    """Read n damaged copies of a file.

    Returns the number that were read, the number that were refused, complaints, and the longest time [s] that one
    took. A complaint is a reader that raises, a reason of more than one line, or a spectrum of which more than a third
    of the usable pixels differ from those of the file: it lies at another place.
    """
    rng = np.random.default_rng(seed)
    content = file.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    bare = without_checksums(content)
    path = folder / file.name.removesuffix(".gz")
    path.write_bytes(bare)
    (whole,) = read_files(survey, [path])
    n_read, n_refused, complaints, longest = 0, 0, [], 0.0
    for i in range(n):
        path.write_bytes(mutated(bare if i % 2 else content, rng))
        start = time.perf_counter()
        try:
            blocks = read_files(survey, [path])
        except Exception as error:
            complaints.append(f"{i}: {type(error).__name__}: {error}")
            continue
        longest = max(longest, time.perf_counter() - start)
        failures = [reason for block in blocks for _, reason in block.failures]
        complaints += [f"{i}: {reason}" for reason in failures if "\n" in reason or not reason]
        n_refused += len(failures)
        for block in blocks:
            n_read += len(block) > 0
            complaints += [f"{i}: {what}" for what in _misplaced(block, whole)]
    return n_read, n_refused, complaints, longest


def _misplaced(block, whole):
    if len(block) > len(whole):
        yield f"{len(block)} spectra of {len(whole)}"
        return
    for row in range(len(block)):
        usable = ((block.mask[row] | whole.mask[row]) & int(UNUSABLE)) == 0
        if usable.sum() < 50:
            continue
        differ = ~np.isclose(block.flux[row], whole.flux[row], rtol=1e-4)[usable]
        if differ.mean() > 0.34:
            yield f"row {row}: {differ.mean():.0%} of {usable.sum()} pixels differ"
