"""Who may do more than look: whoever has the viewer's token signs in with it, and has a session for a while.

Nothing of it is kept but digests, in memory, so that no page, log line or error can tell a token or a session.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final
from unicodedata import category

from ..clock import SYSTEM_CLOCK, Clock
from ..exit_codes import STORE, USAGE, Failure
from ..lru import Lru
from ..text import safe

__all__ = ["TOKEN", "Access", "RefusedError", "Session", "read_token"]

TOKEN: Final = "EVENTCKPT_WEB_TOKEN"  # noqa: S105 - the name of the variable
"""The environment variable that has the token."""

_SHORTEST: Final = 22  # characters of a token: 128 bits, where each is one of 64
_LONGEST: Final = 1_000
_NAME: Final = 100  # characters of who answers
_LASTS: Final = 12 * 3600.0  # seconds of a session
_SESSIONS: Final = 1_000
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""What Python takes for printable, and nobody sees: two names that differ in these look alike."""


class RefusedError(Exception):
    """What was asked for is not done, for a reason of HTTP: `status` says which. `fields` are those of a form that is
    refused for whose it is: what was typed need not be typed again."""

    def __init__(self, status: int, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.fields: Mapping[str, str] = fields or {}


@dataclass(frozen=True)
class Session:
    """Somebody who signed in."""

    actor: str
    """Who that is, as they say; kept on what they do."""
    form_token: str = field(repr=False)
    """What each form of theirs has to send along, and no other page can know."""
    ends: float
    """By the clock of the access."""


class Access:
    """The token of a viewer, and the sessions of those who signed in with it.

    Args:
        token: 22 characters or more, which nobody can guess.
        clock: the time that sessions end by; for tests.

    Raises:
        TypeError, ValueError: the token is no text, or is too short; it is not shown.
    """

    def __init__(self, token: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._token = _digest(_checked(token))
        self._clock = clock
        self._sessions: Lru[bytes, Session] = Lru(_SESSIONS)

    def sign_in(self, token: str, actor: str) -> str:
        """A session for whoever has the token; its id, which nobody else may learn. How often it was wrong does not
        matter: no number of tries comes to it, and counting them would let anybody keep out whoever has it.

        Args:
            token: what was given as such.
            actor: who that is, as they say.

        Raises:
            RefusedError: it is another token.
            Failure: the actor is no name.
        """
        actor = actor.strip()
        if len(actor) > _NAME or not _is_seen(actor):
            raise Failure(USAGE, f"Your name takes 1 to {_NAME} printable characters: it is kept on what you answer.")
        if not hmac.compare_digest(_digest(token), self._token):
            raise RefusedError(403, "This is not the token of this viewer.")
        made = secrets.token_urlsafe(32)
        ends = self._clock.monotonic() + _LASTS
        self._sessions.put(_digest(made), Session(actor, secrets.token_urlsafe(32), ends))
        return made

    def session(self, session_id: str | None) -> Session | None:
        """The session of this id, while it lasts."""
        if not session_id:
            return None
        found = self._sessions.get(_digest(session_id))
        if found is not None and found.ends <= self._clock.monotonic():
            self.sign_out(session_id)
            return None
        return found

    def sign_out(self, session_id: str) -> None:
        """End a session: its id is worth nothing from now on."""
        self._sessions.pop(_digest(session_id))


def read_token(file: str | None, *, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token that was given to the program: in a file, or else in the environment; None: in neither.

    Raises:
        Failure: the file cannot be read, or what was given is no token; it is not shown.
    """
    try:
        given = environ.get(TOKEN) if file is None else Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(STORE, f"--token-file {safe(file)} cannot be read: {type(error).__name__}.") from None
    if not given and file is None:
        return None
    try:
        return _checked(given or "")
    except ValueError as error:
        raise Failure(USAGE, f"{TOKEN if file is None else '--token-file'}: {error}") from None


def _checked(token: str) -> str:
    if not isinstance(token, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes; not shown
        raise TypeError("A token is text.")
    if not _SHORTEST <= len(token) <= _LONGEST or token != token.strip():
        raise ValueError(f"A token has {_SHORTEST} to {_LONGEST:,} characters, which nobody can guess.")
    return token


def _is_seen(name: str) -> bool:
    """Whether all of a name is seen by whoever reads it, and something of it by itself."""
    return name.isprintable() and not _UNSEEN.intersection(name) and any(category(each)[0] in "LNPS" for each in name)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
