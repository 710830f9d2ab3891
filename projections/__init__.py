"""Read models derived from the events, and the processor that keeps them up to date: the public names, nothing else."""

from .batch import Batch, Handler, UpgradeNeededError
from .engines import Engine, open_engine
from .feeds import ChangeFeed, FeedRange
from .latest import Difference, LatestProjection, compare
from .leases import Lease, LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .processor import ChangeFeedProcessor, RangeStatus
from .stats import RangeStats

__all__ = [
    "Batch",
    "ChangeFeed",
    "ChangeFeedProcessor",
    "Difference",
    "Engine",
    "FeedRange",
    "Handler",
    "LatestProjection",
    "Lease",
    "LeaseLostError",
    "LeaseStore",
    "Parked",
    "ProcessorOptions",
    "RangeStats",
    "RangeStatus",
    "UpgradeNeededError",
    "compare",
    "open_engine",
]
