"""`mqtt.host` given as a URL: taken apart into the keys it stands for, before anything is shown or kept. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

from anr_watch.config.reading import Table
from anr_watch.config.values import Given
from anr_watch.errors import Problem

_URL = re.compile(r"(mqtts?)://(?:(.*)@)?(\[[^\]@/]*\]|[^:/@\[\]]*)(?::(\d{1,6}))?/?", re.IGNORECASE | re.DOTALL)
TLS_PORT = 8883


def split_host(table: Table, problems: list[Problem]) -> Table:
    """Return `[mqtt]` with a `mqtt://` or `mqtts://` host taken apart; keys that contradict it are problems.

    TLS without a port means port 8883, as the scheme `mqtts` does.
    """
    table = dict(table)
    given = table.get("host")
    text = given.value if given is not None else None
    if given is not None and isinstance(text, str) and "://" in text:
        match = _URL.fullmatch(text.strip())
        if match is None or not match[3]:
            del table["host"]
            problems.append(Problem(given.name, "***", "must be a host name, or mqtt://user:password@host:port"))
            return table
        scheme, credentials, host, port = match[1].lower(), match[2], match[3], match[4]
        user, colon, password = (credentials or "").partition(":")
        told: dict[str, object] = {"host": host.strip("[]")}
        if scheme == "mqtts":
            told["tls"] = True
        if port:
            told["port"] = int(port)
        if user:
            told["username"] = unquote(user)
        if colon:
            told["password"] = unquote(password)
        for key, value in told.items():
            other = table.get(key) or (table.get("password_file") if key == "password" else None)
            if key != "host" and other is not None and not _same(other, value):
                problems.append(Problem(other.name, "", f"says something else than the URL in {given.name}"))
                continue
            table[key] = Given(value, given.name, given.folder)
    if "port" not in table and "tls" in table and _same(table["tls"], told=True):
        table["port"] = Given(TLS_PORT, table["tls"].name, table["tls"].folder)
    return table


def _same(given: Given, told: object) -> bool:
    if isinstance(told, bool) and given.is_text:
        return str(given.value).strip().lower() in (
            ("true", "yes", "on", "1") if told else ("false", "no", "off", "0")
        )
    return str(given.value) == str(told) if given.is_text else given.value == told
