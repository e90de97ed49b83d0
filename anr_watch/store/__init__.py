"""The store: gaps, footage, attempts and outgoing events in one SQLite file; the only SQL of the program."""

from anr_watch.store.opening import open_store
from anr_watch.store.store import Store
from anr_watch.store.values import (
    Announce,
    GapRow,
    Interrupted,
    Learned,
    Look,
    Measures,
    Missing,
    Mode,
    Noted,
    Origin,
    OutboxRow,
    Outcome,
    Parked,
    Registered,
    Registration,
    Settled,
    Settlement,
    StatusRow,
    Wait,
)

__all__ = [
    "Announce",
    "GapRow",
    "Interrupted",
    "Learned",
    "Look",
    "Measures",
    "Missing",
    "Mode",
    "Noted",
    "Origin",
    "OutboxRow",
    "Outcome",
    "Parked",
    "Registered",
    "Registration",
    "Settled",
    "Settlement",
    "StatusRow",
    "Store",
    "Wait",
    "open_store",
]
