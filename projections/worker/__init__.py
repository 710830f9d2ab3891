"""`eventckpt-projector`: the worker that keeps the "latest" projection up to date, and the tools around it.

Needs the `projector` extra; nothing else in `projections` imports this package.
"""

from .program import app

__all__ = ["app"]
