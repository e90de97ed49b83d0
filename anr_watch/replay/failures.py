"""Turns what libav says about a failed request into an honest reason. Pure: texts and numbers in, a reason out.

The status code of an RTSP answer stands only in libav's log (`method DESCRIBE failed: 453 ...`); its exceptions
know a handful of HTTP codes and call a camera that hangs "invalid data".
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from anr_watch.states import Reason

_RTSP: Final = re.compile(r"method (\w+) failed: (\d{3})")
_HTTP: Final = re.compile(r"HTTP error (\d{3})")
_EOF: Final = 541478725  # AVERROR_EOF as PyAV gives it
_UNREACHABLE: Final = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
}
_RESET: Final = {errno.ECONNRESET, errno.EPIPE}
_CLOSED: Final = {errno.EIO, _EOF}
# libav's own error numbers for HTTP answers, for the cases in which it logs nothing: 0xF8 and three digits.
_HTTP_NUMBERS: Final = {
    int.from_bytes(b"\xf8" + str(status).encode(), "little"): status for status in (400, 401, 403, 404, 429)
}
_RESET_TEXTS: Final = ("reset by peer", "Broken pipe")
_CLOSED_TEXT: Final = "End of file"
_RTSP_REASONS: Final = {
    400: Reason.NO_FOOTAGE,  # see _SAID
    401: Reason.UNAUTHORIZED,
    403: Reason.UNAUTHORIZED,
    404: Reason.NO_FOOTAGE,
    408: Reason.STALLED,
    453: Reason.BUSY,  # not enough bandwidth: how cameras say that a replay is running already
    457: Reason.NO_FOOTAGE,  # invalid range
    503: Reason.BUSY,
}
_HTTP_REASONS: Final = {
    400: Reason.NO_FOOTAGE,  # see _SAID
    401: Reason.UNAUTHORIZED,
    403: Reason.UNAUTHORIZED,
    404: Reason.NO_FOOTAGE,
    408: Reason.STALLED,
    410: Reason.NO_FOOTAGE,
    416: Reason.NO_FOOTAGE,
    429: Reason.BUSY,
    500: Reason.BUSY,  # devices that do one download at a time answer the second so
    503: Reason.BUSY,
}
# Codes that say less than a person needs. 400: Frigate where it has nothing recorded, others for an URL they cannot
# read; either way nothing of that time comes from this URL.
_SAID: Final = {
    400: "bad request: it has nothing of that time, or does not understand the replay URL",
    405: "this method is not allowed",
    415: "unsupported media type",
    454: "session not found",
    459: "aggregate operation not allowed",
    461: "unsupported transport: see `transport` in [cameras.<id>]",
    500: "internal error",
    501: "not implemented",
    502: "bad gateway",
    505: "version not supported",
    551: "option not supported",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed, in our word and in one line, with the status code if the camera gave one."""

    reason: Reason
    detail: str
    status: int | None = None


def why(
    lines: Iterable[str], *, error_number: int | None, text: str, connected: bool, silent_s: float, patience_s: float
) -> Failure:
    """Return why a replay could not be opened.

    `lines` is libav's log, oldest first; `connected` whether the TCP connection was ever there; `silent_s` how long
    nothing had been heard when it failed, against `patience_s`, the time after which we call that a stall.
    """
    said = list(lines)
    answer = _answer(said, error_number)
    if answer is not None:
        return answer
    last = next((line for line in reversed(said) if "onnection attempt" not in line), text)
    if any("certificate" in line or "TLS" in line or "handshake" in line for line in said):
        return Failure(Reason.UNREACHABLE, f"no TLS connection: {last}")
    if any("not on whitelist" in line for line in said) or error_number == errno.EPROTONOSUPPORT:
        return Failure(Reason.BAD_MEDIA, f"the camera pointed to something that may not be opened: {last}")
    if not connected:
        named = next((line for line in reversed(said) if "resolve" in line or "attempt" in line), text)
        return Failure(Reason.UNREACHABLE, f"no connection: {named}")
    if error_number in _UNREACHABLE:
        return Failure(Reason.UNREACHABLE, f"no connection: {text}")
    if error_number in _RESET or any(mark in line for line in said for mark in _RESET_TEXTS):
        return Failure(Reason.UNREACHABLE, "the connection was closed without an answer")  # however long it took
    timed_out = error_number == errno.ETIMEDOUT or any("timed out" in line for line in said)
    if timed_out or silent_s >= 0.9 * patience_s:
        return Failure(Reason.STALLED, f"no answer within {patience_s:g} s")
    if error_number in _CLOSED or any(_CLOSED_TEXT in line for line in said):
        # Port forwards and tunnels accept for a camera that is not there.
        return Failure(Reason.UNREACHABLE, "the connection was closed without an answer")
    return Failure(Reason.BAD_MEDIA, f"not readable: {last}")


def _answer(said: list[str], error_number: int | None) -> Failure | None:
    """Return the failure that a status code means, if the camera gave one."""
    for line in reversed(said):
        if match := _RTSP.search(line):
            return _answered("RTSP", match[1], int(match[2]), _RTSP_REASONS)
        if match := _HTTP.search(line):
            return _answered("HTTP", "request", int(match[1]), _HTTP_REASONS)
    if error_number in _HTTP_NUMBERS:
        return _answered("HTTP", "request", _HTTP_NUMBERS[error_number], _HTTP_REASONS)
    return None


def _answered(protocol: str, method: str, status: int, reasons: dict[int, Reason]) -> Failure:
    said = f" ({_SAID[status]})" if status in _SAID else ""
    detail = f"the camera answered {method} with {protocol} {status}{said}"
    return Failure(reasons.get(status, Reason.BAD_MEDIA), detail, status)
