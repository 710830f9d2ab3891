"""The page on which whoever may answer signs in."""

from __future__ import annotations

import re
from typing import Final

from ...exit_codes import NO_SUCH_NAME, Failure, exit_code
from ..access import Access, RefusedError
from ..page import Page, SeeOther, Sent
from ..problems import STATUS
from ..query import Query
from ..viewer import Viewer

__all__ = ["sign_in", "signed_in", "signed_out"]

_HOME: Final = "/inbox"
_ADDRESS: Final = re.compile(r"(?P<path>/[a-z/-]*)(\?[!\"$-\[\]-~]{0,4000})?")
"""A path as the viewer's own are, and a query."""


async def sign_in(viewer: Viewer, asked: Query) -> Page:
    """Ask who it is, and for the token."""
    _access(viewer)
    return _page(viewer, asked.text("back"))


async def signed_in(viewer: Viewer, sent: Sent) -> Page | SeeOther:
    """Begin a session, and go back to where it is needed."""
    given, back = sent.fields, sent.fields.get("back")
    try:
        session_id = _access(viewer).sign_in(given.get("token", ""), given.get("actor", ""))
    except (RefusedError, Failure) as error:
        return _page(viewer, back, given.get("actor", ""), error)
    return SeeOther(_address(viewer, back), session_id)


async def signed_out(viewer: Viewer, sent: Sent) -> SeeOther:
    """End the session."""
    _access(viewer).sign_out(sent.session_id)
    return SeeOther(_HOME, "")


def _access(viewer: Viewer) -> Access:
    if viewer.answering is None:
        raise Failure(NO_SUCH_NAME, "Nobody signs in here: this viewer only looks.")
    return viewer.answering.access


def _page(viewer: Viewer, back: str | None, actor: str = "", error: RefusedError | Failure | None = None) -> Page:
    values = {"back": _address(viewer, back), "actor": actor, "problem": str(error) if error is not None else None}
    values["wrong"] = None if error is None else "token" if isinstance(error, RefusedError) else "actor"
    if isinstance(error, RefusedError):
        return Page("sign_in.html", "Sign in", values, status=error.status)
    return Page("sign_in.html", "Sign in", values, status=200 if error is None else STATUS[exit_code(error) or 2])


def _address(viewer: Viewer, back: str | None) -> str:
    """Where to go then: nowhere but to a page of the viewer."""
    address = _ADDRESS.fullmatch(back or "")
    return address[0] if address is not None and address["path"] in viewer.paths else _HOME
