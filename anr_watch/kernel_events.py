"""Rows for the kernel's own `events` table: its dashboard, webhooks and e-mail read them. Pure."""

from __future__ import annotations

import uuid

import orjson

from anr_watch.instants import format_instant
from anr_watch.log import one_line, redact
from anr_watch.model import Attempt, Gap, KernelEvent
from anr_watch.verdict import Verdict

# Any fixed UUID: it only has to be the same in every process that may write the same event.
_NAMESPACE = uuid.UUID("6f6b7b2e-8d3f-5d0a-9c51-0e0d4f1f7a10")


def is_news(verdict: Verdict) -> bool:
    """Say whether operators want to hear of it: footage came, or a try counted.

    A camera that is down or busy is asked again every few minutes, and each row here may be an e-mail.
    """
    return verdict.got_s > 0 or verdict.counts or not verdict.missing


def fill_event(gap: Gap, attempt: Attempt, verdict: Verdict) -> KernelEvent:
    """Return the row that tells how a try ended; the same try always makes the same id.

    Completed and partial fills are `info`; a try that gained nothing is a `warning`, and `critical` only when the gap
    is given up, because operators are woken by it.
    """
    if not verdict.missing:
        kind, severity = "anr_fill_completed", "info"
    elif verdict.got_s > 0:
        kind, severity = "anr_fill_partial", "info"
    else:
        kind, severity = "anr_fill_failed", "critical" if verdict.failed else "warning"
    payload = {
        "gap_id": gap.id,
        "gap_start": gap.start_text,
        "gap_end": gap.end_text,
        "attempt": attempt.number,
        "reason": verdict.reason.value,
        "detail": one_line(redact(verdict.detail), 300),
        "recovered_seconds": round(verdict.got_s, 3),
        "missing_seconds": round(sum(piece.seconds for piece in verdict.missing), 3),
        "files": attempt.files,
        "bytes": attempt.bytes,
        "missing": [[format_instant(piece.start), format_instant(piece.end)] for piece in verdict.missing[:50]],
    }
    return KernelEvent(
        id=str(uuid.uuid5(_NAMESPACE, f"{kind}/{attempt.id}")),
        camera_id=gap.camera_id,
        event_type=kind,
        severity=severity,
        timestamp=attempt.ended_at or attempt.started_at,
        payload=orjson.dumps(payload),
    )
