"""Log lines for people (plain) or machines (JSON) on stderr; the last rim a secret could slip through.

Every record passes one redaction: what stands between `://` and the last `@` of an authority becomes `***`,
and control characters become escapes, so that a camera or a client cannot forge lines, colour terminals or turn
the direction of what follows. A trace has more than one line; those behind the first are indented, as no record is.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

# Up to the last `@` before white space or a quote: a password with a raw `/` in it must not get through, and a
# path that holds an `@` loses only its readability.
# One pass over the text, word by word: a single expression for scheme, `://` and `@` takes time that grows with the
# square of what a stranger sent (60 000 letters: 12 s).
_WORD = re.compile(r"[^ \t\r\n\"'<>]+")
# C0, C1, line and paragraph separators; marks, embeddings, overrides and isolates of bidirectional text, which let a
# line show something else than it holds (CVE-2021-42574); lone surrogates, which no UTF-8 can carry.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with the credentials of every URL, and each of `secrets`, replaced by `***`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _WORD.sub(_without_authority, text) if "://" in text else text


def _without_authority(match: re.Match[str]) -> str:
    word = match[0]
    scheme, at = word.find("://"), word.rfind("@")
    return f"{word[: scheme + 3]}***{word[at:]}" if 0 <= scheme < at else word


def one_line(text: str, limit: int = 2000) -> str:
    """Return `text` as one printable line: control characters escaped, cut at `limit` characters."""
    clean = _CONTROL.sub(_escape, text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def json_line(text: str) -> str:
    """Return JSON with what could colour or turn a terminal's line as JSON escapes; its values are the same."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        text = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z {record.levelname:<7} {record.getMessage()}"
        lines = [one_line(redact(f"{text} {fields}".rstrip()))]
        if record.exc_info:
            lines += [f"    {line}" for line in _trace(self, record)]
        return "\n".join(lines)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        import orjson  # noqa: PLC0415 - only where JSON lines are asked for

        at = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "event": one_line(redact(record.getMessage())),
        }
        entry |= {key: one_line(redact(str(value))) for key, value in _fields(record).items()}
        if record.exc_info:
            entry["exception"] = "\n".join(_trace(self, record))
        return orjson.dumps(entry).decode()


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the trace of a record, line by line; an exception's text can be anything, line feeds included."""
    text = "" if record.exc_info is None else redact(formatter.formatException(record.exc_info))
    return [one_line(line) for line in text.split("\n")]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def set_up(*, level: str = "info", json: bool = False) -> None:
    """Send everything at or above `level` to stderr, as plain lines or as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if json else _Plain())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("watchfiles", "aiosqlite", "mqtt", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class Repeated:
    """Limits one kind of complaint to a line per `every_s`, and reports how many came before the recovery.

    The owner passes monotonic seconds in, so tests need no clock of their own.
    """

    def __init__(self, logger: logging.Logger, what: str, *, every_s: float = 30.0) -> None:
        self._logger, self._what, self._every_s = logger, what, every_s
        self._count = 0
        self._last_s: float | None = None

    def failed(self, error: object, at_s: float) -> None:
        """Note a failure at monotonic `at_s`; log it unless the last line is younger than `every_s`."""
        self._count += 1
        if self._last_s is None or at_s - self._last_s >= self._every_s:
            self._last_s = at_s
            self._logger.warning("%s: %s", self._what, error, extra={"failures": self._count})

    def worked(self) -> None:
        """Note a success; the first after failures is logged with their number."""
        if self._count:
            self._logger.info("%s: works again", self._what, extra={"failures": self._count})
        self._count, self._last_s = 0, None
