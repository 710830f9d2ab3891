"""Read models derived from the events, and the processor that keeps them up to date: the public names, nothing else."""

from eventckpt.stores.change_feed import ChangeFeed, FeedRange

from .batch import Batch, Handler, UpgradeNeededError
from .compare import Difference, compare
from .engines import Engine, open_engine
from .latest import LatestProjection
from .leases import Lease, LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .processor import ChangeFeedProcessor, RangeStatus, RangeView
from .range_stats import RangeStats
from .tasks import Trouble

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
    "RangeView",
    "Trouble",
    "UpgradeNeededError",
    "compare",
    "open_engine",
]
