"""Damage to the files of a store, drawn by chance: what disks, copies and people do to them."""

import json
import shutil

_ODD = (None, -1, 0, 1, 10**12, 1.5, "", "x", [], [0], {}, True, float("nan"))


def mutate(path, rng):
    """Damage one file of a store, or lose a folder; returns what was done, in words."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = files[rng.integers(len(files))]
    kinds = ["lost", "cut", "flipped", "swapped", "lost folder"] + ["changed"] * 4 * (file.suffix == ".json")
    kind = kinds[rng.integers(len(kinds))]
    content, about = file.read_bytes(), ""
    if kind == "lost":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(content[: rng.integers(len(content))])
    elif kind == "flipped":
        place = int(rng.integers(len(content)))
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(flipped))
        about = f" at {place}"
    elif kind == "swapped":
        other = files[rng.integers(len(files))]
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
        about = f" with {other.relative_to(path)}"
    elif kind == "lost folder":
        file = file.parent
        if file == path:
            return "nothing"
        shutil.rmtree(file)
    else:
        metadata = json.loads(content)
        about = f" {_change(metadata, rng)}"
        file.write_text(json.dumps(metadata))
    return f"{kind}{about}: {file.relative_to(path)}"


def _change(node, rng):
    """Replace or remove one of the values of a JSON document, at any depth."""
    places = list(_places(node))
    holder, key = places[rng.integers(len(places))]
    if rng.random() < 0.25:
        del holder[key]
        return f"without {key}"
    value = _ODD[rng.integers(len(_ODD))]
    holder[key] = value
    return f"{key} = {value!r}"


def _places(node):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from _places(value)
