"""The port for small JSON documents by id, each written only over the state that was read: what leases are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

__all__ = ["Document", "DocumentStore"]

Document: TypeAlias = dict[str, Any]
"""Always with `id`; read ones also with `_etag`, which changes with every write."""


class DocumentStore(ABC):
    """A place for documents that several workers write.

    An id is text as `names` has it; of what is none there is no document. What is not text is a `TypeError`.
    """

    @abstractmethod
    async def list_documents(self, prefix: str) -> list[Document]:
        """The documents whose id begins with `prefix`."""

    @abstractmethod
    async def read(self, name: str) -> Document | None:
        """The document with this id; None if there is none."""

    @abstractmethod
    async def create(self, document: Document) -> Document | None:
        """Write a new document; None, and nothing is changed, if its id is taken.

        Raises:
            TypeError, ValueError: it has no id, or one that no document can have.
        """

    @abstractmethod
    async def replace(self, document: Document, etag: str) -> Document | None:
        """Write over the state with this etag; None, and nothing is changed, if there is another one or none.

        Raises:
            TypeError, ValueError: it has no id, or one that no document can have.
        """

    @abstractmethod
    async def delete(self, name: str, etag: str) -> bool:
        """Remove the state with this etag; False if there is another one."""
