"""The restricted codec: a `WorkflowCheckpoint` to bytes and back, without pickle.

It accepts what `agent_framework.FileCheckpointStorage` accepts and refuses what that refuses (docs/codec.md lists
the few deliberate differences), keeps what JSON loses (int keys, subclasses, huge ints, shared references), and
writes equal checkpoints as equal bytes. The bytes are MessagePack: data that any tool can read, never code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import localcontext
from types import NoneType
from typing import Any, Final, cast

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

from .. import settings
from ..allowlist import TypeGate
from ..errors import CheckpointDecodeError, CheckpointEncodeError
from ..log import logger_of
from . import forms as f
from .decoder import Decoder, said
from .drift import Drift, OnDrift
from .encoder import Encoder
from .evolution import Evolution
from .forms import MAX_DEPTH
from .pieces import PieceEncoder, pack_pieces
from .proof import Encoded, Piece, Proven
from .root import Root, opened
from .shapes import Shapes
from .type_expressions import forget
from .upcast_forms import as_forms
from .upcasters import Upcaster, Upcasters, upcast
from .walk import labelled, share_texts

__all__ = ["MAX_DEPTH", "MAX_RAW_SIZE", "CheckpointCodec"]

logger: Final = logger_of("eventckpt")

MAX_RAW_SIZE: Final = 512 * 1024 * 1024
"""The most bytes that one encoded checkpoint may have, before compression."""


_FIELDS: Final[dict[str, tuple[type[Any], ...]]] = {
    "workflow_name": (str,),
    "graph_signature_hash": (str,),
    "checkpoint_id": (str,),
    "previous_checkpoint_id": (str, NoneType),
    "timestamp": (str,),
    "messages": (dict,),
    "state": (dict,),
    "pending_request_info_events": (dict,),
    "iteration_count": (int,),
    "version": (str,),
}
"""The exact types of the fields that more than the framework reads."""


class CheckpointCodec:
    """Encodes checkpoints for storage and decodes them under an allow-list.

    Args:
        allowed_checkpoint_types: application types beyond the framework's built-in set, each as
            `"module:qualname"`, as for `FileCheckpointStorage`.
        storage_name: the class that takes `allowed_checkpoint_types`, named when a type is refused.
        on_drift: what a decode does with a value that does not fit its class any more (docs/evolution.md): "error"
            raises, "warn" says so and goes on without it.
        upcasters: what stored values of older classes become, before those of the process (`register_upcaster`).

    A codec may be shared by any number of storages and tasks; it does no I/O and never awaits.
    """

    def __init__(
        self,
        allowed_checkpoint_types: Iterable[str] | None = None,
        *,
        storage_name: str = "CheckpointCodec",
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
    ) -> None:
        settings.choice("on_drift", on_drift, "error", "warn")
        self._gate = TypeGate(allowed_checkpoint_types or (), storage_name=storage_name)
        self._ordinary: set[type[Any]] = set()
        self._recipes: dict[str, Any] = {}
        self._on_drift: OnDrift = on_drift
        self._upcasters = Upcasters(upcasters)
        self._shapes = Shapes(self._stored)
        self._proven = Proven()

    def encode(self, checkpoint: WorkflowCheckpoint) -> bytes:
        """The MessagePack bytes of `checkpoint`. Equal checkpoints give equal bytes.

        Raises:
            CheckpointTypeNotAllowedError: a value's type is not on the allow-list; names the key to add.
            CheckpointEncodeError: a value cannot be stored (cyclic plain containers, functions, open files,
                more than `MAX_DEPTH` levels, more than `MAX_RAW_SIZE` bytes); says where it is.
        """
        return self.encode_in_pieces(checkpoint).raw

    def encode_values(self, values: Mapping[str, object]) -> bytes:
        """The MessagePack bytes of values that make up no checkpoint, under the same rules: what is kept of a session.

        Args:
            values: by name.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointEncodeError: as `encode`; the path begins with the name.
        """
        return self._encoded_in_pieces(dict(values), "A value").raw

    def encode_in_pieces(self, checkpoint: WorkflowCheckpoint) -> Encoded:
        """What `encode` gives, and with it what `prove` needs. Raises what `encode` does."""
        encoded = self._encoded_in_pieces(
            checkpoint.to_dict(), f"Checkpoint {checkpoint.checkpoint_id!r}", "checkpoint"
        )
        return encoded if type(checkpoint) is WorkflowCheckpoint else encoded._replace(pieces=None)

    def _encoded_in_pieces(self, fields: dict[str, Any], what: str, *path: str) -> Encoded:
        try:
            try:
                encoded = self._encoded(fields, PieceEncoder(self._gate, self._ordinary, careful=False))
            except (OverflowError, UnicodeEncodeError):  # an int beyond 64 bits, a lone surrogate: rare
                encoded = self._encoded(fields, PieceEncoder(self._gate, self._ordinary, careful=True))
        except RecursionError as error:
            raise CheckpointEncodeError(f"{what} nests deeper than this call's stack has room for.") from error
        except CheckpointEncodeError as error:
            error.path[:0] = path
            raise
        except Exception as error:  # a container that another thread changes meanwhile, for one
            raise CheckpointEncodeError(f"{what} cannot be encoded: {type(error).__name__}: {error}.") from error
        if len(encoded.raw) > MAX_RAW_SIZE:
            raise CheckpointEncodeError(f"{what} has {len(encoded.raw):,} bytes; the limit is {MAX_RAW_SIZE:,}.")
        return encoded

    def _encoded(self, fields: dict[str, Any], encoder: PieceEncoder) -> Encoded:
        node, classes = encoder.tree(fields), encoder.classes
        shapes = {key: shape.node for key, cls in classes.items() if (shape := self._shapes.of(cls))}
        raw = Root(node, shapes).packed(pack_pieces)
        as_they_are = all(name in fields and f.type_of(fields[name]) in types for name, types in _FIELDS.items())
        return Encoded(raw, classes, shapes, encoder.pieces() if as_they_are else None)

    def prove(self, encoded: Encoded) -> None:
        """Show that a checkpoint would load again, by loading what was not shown before.

        Args:
            encoded: what `encode_in_pieces` of this codec gave. Its pieces are used up.

        Raises:
            CheckpointTypeNotAllowedError, CheckpointDecodeError: as `decode` of its bytes does.
        """
        is_proven = encoded.pieces is not None and self._is_proven(encoded, encoded.pieces)
        if encoded.pieces is not None:
            encoded.pieces.clear()  # it takes a while to free them: here, and not in the event loop
        if not is_proven:
            self.decode(encoded.raw)

    def _is_proven(self, encoded: Encoded, pieces: list[Piece]) -> bool:
        """Whether it loads again; False: that cannot be said of its pieces, and the whole has to tell."""
        if not pieces:
            return True
        proven = self._proven
        if not proven.is_of(encoded.classes):
            proven = self._proven = Proven()
            proven.is_of(encoded.classes)
        try:
            if any(key.encode() in encoded.raw for key in self._upcasters.chains()):
                return False
            decoder = self._decoder(Root({}, encoded.shapes), encoded.raw)
            with localcontext():
                is_covered = proven.covers(pieces, decoder)
        except Exception:  # which the whole says with the path to it, if it is so there
            return False
        if decoder.named_types:
            forget()
        return is_covered

    def _decoder(self, root: Root, raw: bytes) -> Decoder:
        evolution = Evolution(root.shapes, self._on_drift)
        return Decoder(self._gate, self._recipes, raw, self._shapes, evolution, self._upcasters.renamed())

    def _upcast(self, root: Root) -> Root:
        """A checkpoint whose stored values have gone through the upcasters. `root` is used up."""
        chains = self._upcasters.chains()
        if not chains:
            return root
        return upcast(root, chains, lambda key: self._is_unchanged(root, key), self._stored)

    def upcast_forms(self, raw: bytes) -> Root:
        """A checkpoint whose stored values have gone through the upcasters, as plain stored forms: for who shows it as
        it is to be loaded. Nothing is made alive.

        Args:
            raw: the bytes.

        Raises:
            CheckpointDecodeError: they are no checkpoint, an upcaster failed, or it gave no state.
        """
        root, renamed = opened(raw), self._upcasters.renamed()
        return as_forms(self._upcast(root), renamed) if renamed else root

    def _is_unchanged(self, root: Root, key: str) -> bool:
        recorded = None if root.shapes is None else root.shapes.get(key)
        try:
            now = self._shapes.of(self._gate.resolve(key))
        except WorkflowCheckpointException:
            return False  # which is not for this to say: an upcaster is asked first
        return now is not None and recorded is not None and now.is_as(recorded)

    def _stored(self, value: Any) -> Any:
        """The stored form of a value that stands alone: nothing refers to it, nor to what is in it."""
        node = Encoder(self._gate, self._ordinary, careful=True).tree(value)
        if labelled(node):
            raise CheckpointEncodeError("It holds one object twice.")
        return node

    def decode(
        self, raw: bytes, *, told: Callable[[Drift], None] | None = None, texts: dict[str, str] | None = None
    ) -> WorkflowCheckpoint:
        """The checkpoint that `encode` gave `raw` for.

        Args:
            raw: the bytes.
            told: called with each drift that was gone on with; without it the log has a warning.
            texts: of those who decode many checkpoints that hold the same: begun empty, and given with each, it makes
                one object of equal texts.

        Raises:
            CheckpointTypeNotAllowedError: a stored type is not on the allow-list; its module was not imported.
            CheckpointDecodeError: the bytes are damaged, hostile or of an unknown version, or a class can no
                longer be rebuilt from what it saved.
        """
        fields = self._decoded(raw, told, texts, "checkpoint")
        for name, types in _FIELDS.items():
            if name in fields and f.type_of(fields[name]) not in types:
                raise CheckpointDecodeError(f"A stored checkpoint's {name} is a {f.type_of(fields[name]).__name__}.")
        try:
            return WorkflowCheckpoint.from_dict(fields)
        except WorkflowCheckpointException as error:
            raise CheckpointDecodeError(
                f"A stored checkpoint does not fit the installed agent_framework: {error}"
            ) from error

    def decode_values(self, raw: bytes, *, told: Callable[[Drift], None] | None = None) -> dict[str, Any]:
        """The values that `encode_values` gave `raw` for. Takes and raises what `decode` does."""
        return self._decoded(raw, told, None)

    def _decoded(
        self, raw: bytes, told: Callable[[Drift], None] | None, texts: dict[str, str] | None, *path: str
    ) -> dict[str, Any]:
        try:
            root = opened(raw)
            if texts is not None:
                share_texts(root.fields, texts)
            root = self._upcast(root)
            decoder = self._decoder(root, raw)
            with localcontext():  # whatever stored numbers do to the flags of the thread's own
                fields = decoder.value(root.fields)
            if decoder.named_types:
                forget()
        except CheckpointDecodeError as error:
            if error.path:
                error.path[:0] = path
            raise
        except WorkflowCheckpointException:
            raise
        except RecursionError as error:
            raise CheckpointDecodeError("Stored values nest deeper than this call's stack has room for.") from error
        except Exception as error:  # damaged bytes, or a stored value's own __hash__ or __eq__
            raise CheckpointDecodeError(f"Stored bytes are not a checkpoint: {said(error)}") from error
        if type(fields) is not dict:
            raise CheckpointDecodeError("Stored bytes are MessagePack, but not a checkpoint.")
        for drift in decoder.evolution.drifts.noted():
            (told or _warn)(drift)
        return cast("dict[str, Any]", fields)


def _warn(drift: Drift) -> None:
    logger.warning("A stored value was changed to fit its class: %s", drift.text)
