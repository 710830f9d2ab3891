"""The `eventckpt-web` command: the pages of a store, for whoever sits at this machine."""

from __future__ import annotations

import asyncio
import secrets
import sys
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Final

from ..audit.listed_from import WHERE
from ..exit_codes import MEANINGS, USAGE, Failure, ending, printing, without_extra
from ..location import open_store
from ..log import escaped, logger_of
from ..text import safe

try:
    import typer

    from ..command_line import Allow, Command, Store, says_version
    from .access import TOKEN, read_token
    from .answering import answering_at
    from .app import create_app
    from .opened import Opened
    from .serving import DEFAULT_PORT, listening, serve
    from .standing import ASKED, Operations, Standing
except ModuleNotFoundError as _gone:
    raise without_extra(
        "eventckpt-web", "web", ("jinja2", "markupsafe", "starlette", "typer", "uvicorn"), _gone
    ) from _gone

__all__ = ["app", "main"]

_PROGRAM: Final = "eventckpt-web"

app: Final = typer.Typer(name=_PROGRAM, pretty_exceptions_enable=False, rich_markup_mode=None)

_Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help=f"0: any free port. Without: {DEFAULT_PORT}, or any free one where that is taken."
    ),
]
_Latest = Annotated[
    str,
    typer.Option(
        help="What runs are listed from: log; projection, which a projector keeps up to date; auto: the projection "
        "where there is one."
    ),
]
_Answers = Annotated[
    bool, typer.Option("--allow-answers", help="Let whoever has the token answer questions, by what --app builds.")
]
_App = Annotated[
    str | None,
    typer.Option("--app", help="What builds the workflow that goes on with an answer: module:callable."),
]
_TokenFile = Annotated[
    str | None,
    typer.Option(help=f"Has the token, 22 characters or more; else {TOKEN}, else one is made and printed."),
]
_Version = Annotated[
    bool,
    typer.Option("--version", callback=says_version(_PROGRAM), is_eager=True, help="Say which version this is."),
]


@app.command(cls=Command, epilog=MEANINGS)
def _view(  # pyright: ignore[reportUnusedFunction] - typer calls it
    store: Store = None,
    port: _Port = None,
    latest: _Latest = "auto",
    allow: Allow = None,
    allow_answers: _Answers = False,
    app: _App = None,
    token_file: _TokenFile = None,
    version: _Version = False,
) -> None:
    """Show a store in a browser of this machine, at the address that is printed, until SIGINT or SIGTERM. Nothing in
    the store is changed, but by answers, where they are allowed."""

    def tell(_: int, error: BaseException) -> None:
        typer.echo(f"{_PROGRAM}: {safe(' '.join(str(error).split()))}", err=True)

    with ending(tell):
        token = _token(allow_answers, app, token_file)
        asyncio.run(_work(store, port, latest, allow or [], app, token))


def _token(allow_answers: bool, app: str | None, token_file: str | None) -> str | None:
    """What signs in whoever may answer; one that was made is printed, this once. None: nobody may."""
    if not allow_answers:
        if app is not None or token_file is not None:
            raise Failure(USAGE, "--app and --token-file are for answering: add --allow-answers.")
        return None
    if app is None:
        raise Failure(USAGE, "--allow-answers needs --app: what builds the workflow that goes on with an answer.")
    token = read_token(token_file)
    if token is None:
        token = secrets.token_urlsafe(32)
        with printing():
            typer.echo(f"Token for answering: {token}")
    return token


async def _work(
    store: str | None, port: int | None, latest: str, allow: list[str], app: str | None, token: str | None
) -> None:
    if latest not in WHERE:
        raise Failure(USAGE, f"--latest is {', '.join(WHERE)}, not {latest!r}.")
    opening = partial(open_store, store, read_only=True, priority="Low")
    # The SDK says of an account that is away, at each request, where it was looked for.
    with escaped("azure", logger_of("eventckpt.web.azure")):
        await _serve(Opened(opening, where=latest, allow=allow), store, port, allow, app, token)


async def _serve(
    opening: Opened, store: str | None, port: int | None, allow: list[str], app: str | None, token: str | None
) -> None:
    async with opening as opened, AsyncExitStack() as resources:
        audit, answering = await opened.audit(), None
        if app is not None and token is not None:
            answers = answering_at(store, app=app, allow=allow, token=token)
            answering = await resources.enter_async_context(answers)
        name = f"{_PROGRAM}-{secrets.token_hex(12)}.localhost" if answering is not None else None
        viewer = create_app(
            audit, operations=_operations(opened), answering=answering, answers_at=name, renew=opened.audit
        )
        with listening(port) as place:
            with printing():
                typer.echo(f"http://{name or '127.0.0.1'}:{place.getsockname()[1]}/")
                sys.stdout.flush()
            await serve(viewer, place)


class _Projector:
    """How the projector stands, asked of the store that is open."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def standing(self) -> Standing:
        """See `Operations`."""
        from projections import open_engine
        from projections.standing import standing_of

        return await standing_of(open_engine(self._opened.store), ask_at_most=ASKED)


def _operations(opened: Opened) -> Operations | None:
    return _Projector(opened) if find_spec("projections") else None


def main() -> None:
    """The console script."""
    app()
