"""A connected socket to the broker, TLS included, without ever blocking the loop. Knows nothing of MQTT.

Name resolution, TLS files and handshakes block, and some cannot be interrupted; so each attempt has a daemon thread
of its own. A caller that gives up leaves the thread to end by itself and to close what it may still get.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading

from anr_watch.config import MqttSettings
from anr_watch.errors import AnrWatchError
from anr_watch.log import one_line


class DialError(AnrWatchError):
    """No connection; the text says why in a person's words."""


async def dial(settings: MqttSettings, *, timeout_s: float) -> socket.socket:
    """Return a connected blocking socket (a TLS one after its handshake).

    Raises:
        DialError: unknown host, refused, no answer, TLS files or certificates unusable.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[socket.socket | DialError] = loop.create_future()

    def work() -> None:
        outcome = _attempt(settings, timeout_s)
        try:
            loop.call_soon_threadsafe(_deliver, result, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _drop(outcome)

    threading.Thread(target=work, name="mqtt-dial", daemon=True).start()
    try:
        outcome = await result
    except asyncio.CancelledError:
        if result.done() and not result.cancelled():  # delivered and given up in the same turn of the loop
            _drop(result.result())
        raise
    if isinstance(outcome, DialError):
        raise outcome
    return outcome


def _deliver(result: asyncio.Future[socket.socket | DialError], outcome: socket.socket | DialError) -> None:
    if result.done():  # given up
        _drop(outcome)
    else:
        result.set_result(outcome)


def _drop(outcome: socket.socket | DialError) -> None:
    if isinstance(outcome, socket.socket):
        outcome.close()


def _attempt(settings: MqttSettings, timeout_s: float) -> socket.socket | DialError:
    try:
        return _connected(settings, timeout_s)
    except DialError as error:
        return error
    except (OSError, ValueError) as error:  # ValueError: a host name that is none
        return DialError(_why(error, settings))


def _connected(settings: MqttSettings, timeout_s: float) -> socket.socket:
    context = _tls_context(settings) if settings.tls else None
    sock = socket.create_connection((settings.host, settings.port), timeout=timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake happens here, under the same time-out per read.
        return sock if context is None else context.wrap_socket(sock, server_hostname=settings.host)
    except BaseException:
        sock.close()
        raise


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise DialError(f"TLS: mqtt.ca_file cannot be used: {_short(error)}") from None
    if settings.cert_file is not None:
        try:
            # Without an answer OpenSSL would ask for the key's password on the terminal, and wait.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            why = f"{_short(error)} (a key must not be encrypted)"
            raise DialError(f"TLS: mqtt.cert_file or mqtt.key_file cannot be used: {why}") from None
    if settings.tls_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: Exception, settings: MqttSettings) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the broker's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {_short(error)}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"the name {settings.host!r} cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer"
    return _short(error)


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return one_line(str(error.reason or error), 200)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return one_line(str(error), 200)
