"""Checks who may read the files with passwords: the configuration, secret files, the broker's key. Shows no value."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from anr_watch.commands.findings import Finding, warn
from anr_watch.config.reading import CREDENTIAL, toml_at
from anr_watch.config.values import path_in
from anr_watch.replay.urls import mask_url

_SECRETS = {"password", "secret_key"}
_URLS = {"host", "replay_url_template"}  # may hold a password
_FILES = {f"{key}_file" for key in (*_SECRETS, "replay_url_template")} | {"key_file"}
_PLACEHOLDER = "{password}"


def check_secret_files(source: str) -> list[Finding]:
    """Return a warning per file that holds a secret and that every user of this machine may read.

    Args:
        source: the configuration file as the settings name it; anything else (built-in defaults) holds no secret.
    """
    path = Path(source)
    document = toml_at(path, []) if path.is_file() else {}
    holders: dict[Path, str] = {}
    for key, value in _texts(document):
        if _is_secret(key, value):
            holders.setdefault(path, key)
        elif key in _FILES and value and not value.startswith(CREDENTIAL):
            holders.setdefault(path_in(path.parent, value), key)
    for variable in ("HELDAR_SECRET_KEY_FILE", "ANR_WATCH_SECRET_KEY_FILE", "ANR_WATCH_MQTT__PASSWORD_FILE"):
        value = os.environ.get(variable, "")
        if value and not value.startswith(CREDENTIAL):
            holders.setdefault(Path(value), variable)
    return [
        warn(
            "config",
            f"{file} holds a secret ({key}) and every user of this machine can read it",
            f"chmod o-rwx {file} (its group may be the service's)",
            mode=f"{stat.S_IMODE(file.stat().st_mode):04o}",
        )
        for file, key in holders.items()
        if _open_to_all(file)
    ]


def _texts(document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Give every text of a configuration with its key, whatever table it stands in."""
    for key, value in document.items():
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, dict):
            yield from _texts(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from _texts(item)


def _is_secret(key: str, value: str) -> bool:
    if key in _SECRETS:
        return bool(value)
    plain = value.replace(_PLACEHOLDER, "").replace("{user}", "").replace("://:@", "://")
    return key in _URLS and mask_url(plain) != plain


def _open_to_all(file: Path) -> bool:
    try:
        found = file.stat()
    except OSError:
        return False  # loading the configuration has said so already
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IROTH)
