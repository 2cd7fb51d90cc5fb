"""Errors of object stores without the credentials that they repeat."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_HIDDEN = "[hidden]"
# Of the body of an S3 error, the code and the message are kept; the other elements repeat keys, tokens and signatures.
_ELEMENT = re.compile(r"<(?!Code>|Message>)([\w.-]+)>[^<]*</\1>")
_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}")
_SIGNED = re.compile(r"(?i)\b(x-amz-(?:security-token|credential|signature)\s*[=:]\s*)[^\s&,;\"'<>]+")
_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")
_SHORTEST = 5  # characters of a secret; a shorter one would be found inside of words


def without_secrets(text: str) -> str:
    """Text of an error with everything hidden that is, or may be, a credential.

    Parameters
    ----------
    text : str
        What an object store, or a library that speaks to it, says.

    Returns
    -------
    str
    """
    text = _ELEMENT.sub(rf"<\1>{_HIDDEN}</\1>", text)
    text = _SIGNED.sub(rf"\1{_HIDDEN}", _KEY.sub(_HIDDEN, text))
    secrets = {value for name, value in os.environ.items() if _VARIABLE.search(name) and _is_of_store(name)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
    return text


def _is_of_store(name: str) -> bool:
    return name.startswith(("AWS_", "GOOGLE_", "AZURE_"))


@contextmanager
def hidden_secrets() -> Iterator[None]:
    """Raise what obstore raises without secrets, and without the error before it, whose text has them."""
    try:
        from obstore.exceptions import BaseError
    except ImportError:  # nothing speaks to an object store then
        yield
        return
    try:
        yield
    except BaseError as error:
        reason = str(error).split("\n\nDebug source:")[0]
        raise type(error)(without_secrets(reason)) from None
