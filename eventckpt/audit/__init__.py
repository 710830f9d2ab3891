"""The log as something people can ask: which runs there are, what happened in them, what they knew, and whether it is
still what was written.

Everything but the states themselves is answered from headers: nothing is decoded, and no payload is read. States
are shown as trees (`eventckpt.codec.tree`), without making anything stored alive; only `checkpoint` and `states`
decode, under the allow-list.
"""

from ..storage import Latest
from .archive import Exported
from .audit import CheckpointAudit
from .conversation import Point
from .deletion import Deletion
from .diff import Difference
from .draft import Draft
from .import_report import Imported
from .import_storage import Adopted, Outline
from .inbox import Question
from .lineage import Node
from .migrate import MigrationPlan
from .preflight import Preflight
from .prune import Plan
from .removed import Removed
from .replay import Replayed
from .retention import Retention
from .retention_policy import RetentionPolicy, RetentionRule
from .retention_report import RetentionPlan, RetentionReport, RuleReport
from .runs import Counts, Filter, Listed
from .states import ANY_TYPE, Change
from .summary import CheckpointSummary, get_checkpoint_summary
from .types import TypeUse
from .verify import Problem, Verdict

__all__ = [
    "ANY_TYPE",
    "Adopted",
    "Change",
    "CheckpointAudit",
    "CheckpointSummary",
    "Counts",
    "Deletion",
    "Difference",
    "Draft",
    "Exported",
    "Filter",
    "Imported",
    "Latest",
    "Listed",
    "MigrationPlan",
    "Node",
    "Outline",
    "Plan",
    "Point",
    "Preflight",
    "Problem",
    "Question",
    "Removed",
    "Replayed",
    "Retention",
    "RetentionPlan",
    "RetentionPolicy",
    "RetentionReport",
    "RetentionRule",
    "RuleReport",
    "TypeUse",
    "Verdict",
    "get_checkpoint_summary",
]
