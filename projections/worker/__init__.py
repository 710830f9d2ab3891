"""`eventckpt-projector`: the worker that keeps the "latest" projection up to date, and the tools around it."""

from .app import app

__all__ = ["app"]
