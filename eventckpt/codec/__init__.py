"""The restricted codec: a `WorkflowCheckpoint` to bytes and back, without pickle.

It accepts what `agent_framework.FileCheckpointStorage` accepts and refuses what that refuses (docs/codec.md lists
the few deliberate differences), keeps what JSON loses (int keys, subclasses, huge ints, shared references), and
writes equal checkpoints as equal bytes. The bytes are MessagePack: data that any tool can read, never code.
"""

from .checkpoint_codec import MAX_RAW_SIZE, CheckpointCodec
from .drift import Drift, OnDrift
from .forms import MAX_DEPTH
from .proof import Encoded
from .upcasters import Upcaster, register_upcaster

__all__ = [
    "MAX_DEPTH",
    "MAX_RAW_SIZE",
    "CheckpointCodec",
    "Drift",
    "Encoded",
    "OnDrift",
    "Upcaster",
    "register_upcaster",
]
