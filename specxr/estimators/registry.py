"""Estimators by name, by model file, and from the provenance of the labels that they made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from inspect import Parameter, signature
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from specxr.estimators.base import Estimator
from specxr.estimators.model_file import SUFFIX, describe_model, is_model

#: Entry points of this group name the classes of estimators. The name of one is in lower case; it is the ``kind`` in
#: its model files, and its class name in lower case is the ``estimator`` of its provenance.
GROUP = "specxr.estimators"


def open_estimator(source: str | os.PathLike[str] | Mapping[str, Any], /, **options: Any) -> Estimator:
    """Open an estimator by its name, from a model file, or as it was when it made labels.

    Parameters
    ----------
    source : str, path-like or mapping
        A name ("lasp"); a model file (.safetensors) or the folder of a model, as `specxr.train` makes them; or the
        provenance of labels: the options in the ledger of a run, or the attributes of labels.
    **options
        Options of the estimator. Beside a provenance they replace what it says.

    Returns
    -------
    Estimator

    Raises
    ------
    ValueError
        The name or an option is not known, an option has a value of another type, or the estimator that is rebuilt
        from a provenance is not the one that made the labels: files or the version of specxr have changed.

    Examples
    --------
    >>> import specxr
    >>> specxr.open_estimator("lasp", clean=True).clean
    True
    """
    if isinstance(source, Mapping):
        return _rebuild(source, options)
    if is_model(source):
        kind = _class(str(describe_model(source)["kind"]))
        opened: Estimator = kind.load(source, **_checked(kind.__name__, kind.load, kind, options))
        return opened
    kind = _class(str(source))
    opener = getattr(kind, "open", kind)
    opened = opener(**_checked(kind.__name__, opener, kind, options))
    return opened


def _names() -> list[str]:
    """Names of the estimators, sorted."""
    return sorted(entry_points(group=GROUP).names)


def _class(name: str) -> Any:
    known = entry_points(group=GROUP)
    if name not in known.names:
        raise ValueError(
            f"the estimator {name!r} is not known; one of {', '.join(_names())} or a model file (*{SUFFIX}) is "
            "required. Name one of these, or install the package that brings it."
        )
    return known[name].load()


def _rebuild(provenance: Mapping[str, Any], options: Mapping[str, Any]) -> Estimator:
    """Build the estimator of a provenance, and compare what it says of itself with what the labels say."""
    content = {name: _plain(value) for name, value in provenance.items()}
    if "estimator" not in content:
        raise ValueError(
            f"the provenance names no estimator (it has {', '.join(map(str, content)) or 'nothing'}); the attributes "
            "of labels that specxr inferred, or the options in a run's ledger, are required. Give one of these."
        )
    kind = _class(str(content["estimator"]).lower())
    rebuilt: Estimator = kind.from_provenance(content, **options)
    if options:
        return rebuilt
    now = {name: _plain(value) for name, value in rebuilt.provenance.items()}
    differing = [name for name in now if name in content and content[name] != now[name]]
    if not differing and content.get("fingerprint", rebuilt.fingerprint) != rebuilt.fingerprint:
        differing = ["fingerprint"]
        content, now = dict(content), {**now, "fingerprint": rebuilt.fingerprint}
    if differing:
        changes = ", ".join(f"{name} {content[name]!r} (now {now[name]!r})" for name in differing)
        raise ValueError(
            f"the {content['estimator']} that made these labels cannot be rebuilt: {changes}; the same emulator or "
            "model and the same version of specxr are required. Put the files back as they "
            "were, or infer the labels again."
        )
    return rebuilt


def _plain(value: Any) -> Any:
    """JSON types of a value; attributes of labels hold those that are no string or number as JSON."""
    if isinstance(value, str):
        return json.loads(value) if value in ("true", "false", "null") or value[:1] in ("[", "{") else value
    return json.loads(json.dumps(value))


def _checked(
    method: str, opener: Callable[..., Any], kind: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options that are known and of the right types."""
    known = _known(opener, kind)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: no such option of {method}; its options are {', '.join(known)}. Correct the "
            "name, or leave it out."
        )
    return {name: _conforming(method, name, value, known[name]) for name, value in options.items()}


def _known(opener: Callable[..., Any], kind: Any) -> dict[str, Any]:
    """Names and types of the keyword options of an opener.

    A method ``load`` with ``**options`` takes those that its class names in ``inference_options``.
    """
    parameters = signature(opener).parameters
    keywords = [p.name for p in parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    types = get_type_hints(kind if opener is kind else opener)
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        keywords, types = list(kind.inference_options()), get_type_hints(kind)
    return {name: types.get(name, Any) for name in keywords if name not in ("path", "model")}


def _conforming(method: str, name: str, value: Any, required: Any) -> Any:
    """The value, made a tuple where one is required; other types are refused."""
    alternatives = get_args(required) if get_origin(required) in (Union, UnionType) else (required,)
    for alternative in alternatives:
        if get_origin(alternative) is tuple:
            items = tuple(value) if isinstance(value, list | tuple) else (value,)
            kinds = get_args(alternative)
            kinds = kinds[:1] * len(items) if kinds[-1] is Ellipsis else kinds
            if len(kinds) == len(items) and all(map(_fits, items, kinds)):
                return items
        elif _fits(value, alternative):
            return value
    written = getattr(required, "__name__", str(required)) if get_origin(required) is None else str(required)
    raise ValueError(
        f"{name} of {method} is {value!r}; a value of the type {written} is required. Correct it."
    )


def _fits(value: Any, kind: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind in (bool, Any) and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float)
    if kind in (int, str):
        return isinstance(value, kind)
    kind = get_origin(kind) or kind
    return not isinstance(kind, type) or isinstance(value, kind)
