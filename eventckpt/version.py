"""Which version of the package this is."""

from __future__ import annotations

__all__ = ["said", "version"]


def version() -> str | None:
    """The version that is installed; None where a copy of the files is used, which is of none."""
    from importlib import metadata  # what few ask for, and takes as long to import as many of our modules

    try:
        return metadata.version("eventckpt")
    except metadata.PackageNotFoundError:
        return None


def said(program: str) -> str:
    """What `program --version` prints."""
    return f"{program} {version() or 'from a copy of its files, which is of no version'}"
