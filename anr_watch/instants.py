"""RFC 3339 texts as the kernel writes them, to aware UTC and back. Pure; the only place that reads or writes them.

The kernel binds chrono UTC values: `2026-06-13T12:00:00+00:00` with 0, 3, 6 or 9 fraction digits, as many as
needed, and compares them as text; so the same form is written, never a trailing `Z`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from anr_watch.errors import ParseError

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def parse_instant(text: object) -> datetime:
    """Return the instant of an RFC 3339 text (any offset, 0 to 9 fraction digits; below 1 us is cut off).

    Raises:
        ParseError: the value is no text of that form, or names a day or time that does not exist.
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ParseError(f"not a time: {str(text)[:40]!r} (right: 2026-06-13T12:00:00+00:00)")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    micros = int((match[7] or "").ljust(6, "0")[:6])
    try:
        # A leap second (60) is the first instant of the next minute for everything that counts seconds.
        leap = timedelta(seconds=1) if second == 60 else timedelta()
        naive = datetime(year, month, day, hour, minute, min(second, 59), micros, tzinfo=UTC) + leap
        offset = timedelta(hours=int(match[10] or 0), minutes=int(match[11] or 0))
        return naive + offset if match[9] == "-" else naive - offset
    except (ValueError, OverflowError) as error:
        raise ParseError(f"not a time: {text!r} ({error})") from None


def format_instant(instant: datetime) -> str:
    """Return the text the kernel would write for `instant`.

    Raises:
        ValueError: the time is naive.
    """
    if instant.tzinfo is None:
        raise ValueError("naive time")
    utc = instant.astimezone(UTC)
    micros = utc.microsecond
    fraction = "" if micros == 0 else f".{micros // 1000:03}" if micros % 1000 == 0 else f".{micros:06}"
    return f"{utc:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + "+00:00"
