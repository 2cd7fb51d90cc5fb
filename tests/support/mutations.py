"""Damaged files: a mutation of the bytes of a FITS file, and what must not come of it."""

from __future__ import annotations

import gzip
import re
import time

import numpy as np

from specxr.readers.registry import read_files
from specxr.vocabulary import UNUSABLE

CARD, BLOCK = 80, 2880
HOSTILE = (
    *("0", "-1", "1", "7", "255", "1E300", "1E400", "-1E19", "9223372036854775808", "9" * 23, "1000000000"),
    *("100000000", "T", "F", "NaN", "1.5", "'text'", "''", "'1000000000E'", "'3909E'", "'P'", "'\u00e9'", "(1, 2)"),
    *("1.0D5", "'&'", "", "-9999", "2147483648"),
)  # fmt: skip


def header_cards(content):
    """Places of the cards of all headers."""
    text = [content[i : i + CARD] for i in range(0, len(content), CARD)]
    places, inside = [], False
    for i, card in enumerate(text):
        inside = inside or card.startswith((b"SIMPLE  =", b"XTENSION="))
        if inside and card.strip():
            places.append(i * CARD)
        inside = inside and card.strip() != b"END"
    return places


def mutant(content, rng, most=3):
    """Some random changes of a file."""
    for _ in range(rng.integers(1, most + 1)):
        places = header_cards(content) or [0]
        content = CHANGES[rng.integers(len(CHANGES))](bytearray(content), int(rng.choice(places)), rng)
    return bytes(content)


def flip_in_header(content, card, rng):
    content[min(card + rng.integers(CARD), len(content) - 1)] ^= 1 << int(rng.integers(8))
    return content


def flip_anywhere(content, card, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return content


def other_value(content, card, rng):
    value = HOSTILE[rng.integers(len(HOSTILE))].encode("latin-1")
    content[card + 8 : card + CARD] = b"= " + value.rjust(20).ljust(CARD - 10)
    return content


def other_name(content, card, rng):
    names = (
        b"NAXIS1",
        b"OBSID",
        b"EXTEN0",
        b"COEFF0",
        b"TFORM1",
        b"END",
        b"CONTINUE",
        b"CHECKSUM",
        b"BSCALE",
        b"HIERARCH",
    )
    content[card : card + 8] = names[rng.integers(len(names))].ljust(8)
    return content


def lost_card(content, card, rng):
    del content[card : card + CARD]
    return content


def repeated_card(content, card, rng):
    content[card:card] = content[card : card + CARD]
    return content


def random_card(content, card, rng):
    content[card : card + CARD] = rng.integers(0, 256, CARD, dtype="u1").tobytes()
    return content


def cut(content, card, rng):
    return content[: rng.integers(1, len(content))]


def lost_block(content, card, rng):
    start = int(rng.integers(len(content) // BLOCK + 1)) * BLOCK
    del content[start : start + BLOCK]
    return content or bytearray(b" ")


def zeros(content, card, rng):
    start = int(rng.integers(len(content)))
    content[start : start + int(rng.integers(1, 20_000))] = bytes(100)
    return content


def swapped_blocks(content, card, rng):
    one, two = (int(n) * BLOCK for n in rng.integers(max(len(content) // BLOCK, 1), size=2))
    content[one : one + BLOCK], content[two : two + BLOCK] = (
        content[two : two + BLOCK],
        content[one : one + BLOCK],
    )
    return content


def repeated_block(content, card, rng):
    start = int(rng.integers(len(content) // BLOCK + 1)) * BLOCK
    content[start:start] = content[start : start + BLOCK]
    return content


def no_numbers(content, card, rng):
    for _ in range(rng.integers(1, 200)):
        at = int(rng.integers(max(len(content) // 4, 1))) * 4
        content[at : at + 4] = (b"\x7f\xc0\x00\x00", b"\x7f\x80\x00\x00", b"\xff\xff\xff\xff")[
            rng.integers(3)
        ]
    return content


def packed(content, card, rng):
    whole = gzip.compress(bytes(content), 1, mtime=0)
    return bytearray(whole[: rng.integers(1, len(whole))] if rng.integers(2) else whole)


CHANGES = (
    flip_in_header,
    flip_anywhere,
    other_value,
    other_value,
    other_name,
    lost_card,
    repeated_card,
    random_card,
    cut,
    lost_block,
    zeros,
    swapped_blocks,
    repeated_block,
    no_numbers,
    packed,
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
        # Most files are refused for a damaged header; what is worth most is one that is nearly sound.
        path.write_bytes(mutant(bare if i % 4 else content, rng, most=3 if i % 3 == 0 else 1))
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
