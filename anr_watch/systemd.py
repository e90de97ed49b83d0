"""Tells systemd how we are (sd_notify): one datagram per word, and nothing where no systemd listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `state` (`READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=...`) to NOTIFY_SOCKET; say whether it was sent.

    Source: sd_notify(3); a name that begins with `@` is in the abstract namespace.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        return False  # a missing notification must not stop the program it is about
    return True
