"""All kinds of records."""

from chalicelib.core.state.allowlist import Allow
from chalicelib.core.state.blocks import Block, BlockLengths, History
from chalicelib.core.state.breakers import Breaker, Known, RuleBreaker, Waiting
from chalicelib.core.state.detections import Detection
from chalicelib.core.state.events import Events, Unannounced, Warned
from chalicelib.core.state.feeds import Feed, FeedNetworks
from chalicelib.core.state.operators import Audit, Pause, Receipt, WebAcls
from chalicelib.core.state.publishing import GuiltyNetworks, Heartbeat, Publisher, Recall
from chalicelib.core.state.records import Control, StateRecord
from chalicelib.core.state.rule_sets import StoredRules
from chalicelib.core.state.trends import Trend, TrendMark

RECORDS: tuple[type[StateRecord], ...] = (
    Detection,
    Block,
    History,
    Allow,
    Feed,
    FeedNetworks,
    StoredRules,
    Known,
    RuleBreaker,
    Waiting,
    Events,
    Warned,
    Trend,
    Audit,
    Receipt,
)
CONTROLS: tuple[type[Control], ...] = (
    Pause,
    Breaker,
    BlockLengths,
    Heartbeat,
    Publisher,
    GuiltyNetworks,
    Unannounced,
    WebAcls,
    Recall,
    TrendMark,
)


def record_type(kind: str, id: str) -> type[StateRecord] | None:
    """Returns the type of the records of a kind, of which ``control`` has one per id; None if there is none."""
    return _CONTROLS.get(id) if kind == Control.kind else _RECORDS.get(kind)


_RECORDS = {of.kind: of for of in RECORDS}
_CONTROLS = {of.id: of for of in CONTROLS}
