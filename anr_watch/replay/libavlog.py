"""libav's log inside a worker: what it says, and the only place to stop it from following a camera elsewhere.

A redirect is followed inside libav, which asks nobody. It does say whom it is about to connect to, in the thread that
connects, before it does: so that thread is held there for ever, and the main thread ends the replay. Worker only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import av

_LOG_LINES: Final = 40
_ATTEMPT: Final = re.compile(r"Starting connection attempt to (\S+) port \d+")
_REDIRECT: Final = re.compile(r"Status \d+: Redirecting to ?(\S*)")
_CONNECTED: Final = "Successfully connected to"


class LibavLog(logging.Handler):
    """libav's log lines: the only place where status codes, connections and redirects are told.

    Attributes:
        lines: the last warnings and attempts to connect.
        connected: whether the connection was there once.
        strayed: where the camera wanted to lead us; empty as long as it did not.
    """

    def __init__(self, scheme: str, host: str, on_connected: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_connected = on_connected
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.connected = False
        self.strayed = ""
        self._scheme, self._host = scheme, host
        self._own: set[str] = set()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take one record without the handler's lock: a thread that is held here must not hold the others."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line; never return to a libav that is about to follow a camera to another machine."""
        text = record.getMessage().strip()
        if attempt := _ATTEMPT.search(text):
            self._look_at(attempt[1])
        elif redirect := _REDIRECT.search(text):
            scheme = redirect[1].partition(":")[0].lower()
            if scheme != self._scheme:
                self._hold(f"{scheme}:" if scheme.isalnum() else "something else")
        if _CONNECTED in text:
            self.connected = True
            self._on_connected()
        elif record.levelno >= logging.WARNING or "attempt" in text:
            self.lines.append(text)

    def attach(self) -> None:
        """Take over libav's log in this process."""
        logger = logging.getLogger("libav")
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(logging.DEBUG)
        av.logging.set_level(av.logging.VERBOSE)

    def _look_at(self, address: str) -> None:
        address = _plain(address)
        if not self.connected:
            self._own.add(address)  # nobody has answered yet, so nobody but us has named it
        elif address not in self._own:
            self._own |= _addresses(self._host)
            if address not in self._own:
                self._hold(address)

    def _hold(self, where: str) -> None:
        self.strayed = where[:80]
        threading.Event().wait()


def _addresses(host: str) -> set[str]:
    """Return what the camera's own name stands for: it may have an address for each version of IP."""
    with contextlib.suppress(OSError, UnicodeError):
        return {_plain(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return set()


def _plain(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
