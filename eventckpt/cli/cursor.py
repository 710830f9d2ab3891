"""Where a listing goes on: a token for what was listed last, which says of which listing it is, and of which workflow.

What it holds is the place in the order of the listing, so that it leads on whatever is written meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer

from .output import Output
from .session import USAGE, Failure

__all__ = ["After", "is_token", "place_in", "say_more", "token_of"]

_T = TypeVar("_T", bound=msgspec.Struct)

After = Annotated[str | None, typer.Option("--after", help="Go on where a listing ended: the token that it gave.")]

_BEGINS: Final = "more."
_LONGEST: Final = 10_000  # characters; names in a token have 255 each


def token_of(listing: str, place: msgspec.Struct) -> str:
    """The token of a place in a listing."""
    content = msgspec.json.encode([listing, msgspec.to_builtins(place)])
    return _BEGINS + base64.urlsafe_b64encode(content).decode().rstrip("=")


def is_token(text: str) -> bool:
    """Whether a text is meant as a token."""
    return text.startswith(_BEGINS)


def place_in(token: str | None, listing: str, kind: type[_T]) -> _T | None:
    """The place that a token stands for; None for none.

    Args:
        token: what was given.
        listing: the listing that is to go on.
        kind: what its places are.

    Raises:
        Failure: it is no token, or that of another listing.
    """
    if token is None:
        return None
    found, place = _content(token)
    if found != listing:
        other = f"is of `{found}`" if found else "is none that a listing gave"
        raise Failure(USAGE, f"--after takes the token that `{listing}` gave, and this one {other}.")
    try:
        return msgspec.convert(place, kind)
    except msgspec.ValidationError:
        raise Failure(USAGE, f"--after takes the token that `{listing}` gave, and this one was changed.") from None


def _content(token: str) -> tuple[str, Any]:
    """The listing that a token says that it is of, and its place; of what is no token, none."""
    try:
        text = token.removeprefix(_BEGINS)[:_LONGEST]
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found, place = msgspec.json.decode(content, type=tuple[str, Any])
    except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
        return "", None
    return (found, place) if is_token(token) and found.isprintable() and len(found) < len(_BEGINS) * 10 else ("", None)


def say_more(out: Output, token: str) -> None:
    """The last line of a listing that does not end here: how to go on."""
    out.record("more", {"after": token})
    out.note(f"There are more: --after {token}, or --limit 0 for all.")
