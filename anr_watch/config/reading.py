"""Where values come from: `config.toml`, the environment, files with secrets, the kernel's own variables.

Reads and merges, and says what could not be read; it does not judge what the values mean.

Order, the later wins: defaults, the kernel's variables, the file, `ANR_WATCH_*`. Relative paths in the file are
relative to the file's folder, in the environment to the working folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from anr_watch.config.values import Given, WrongValueError, listed, path_in
from anr_watch.errors import Problem

PREFIX = "ANR_WATCH_"
CONFIG_VARIABLE = "ANR_WATCH_CONFIG"
CREDENTIAL = "credential:"
_LARGEST_SECRET_BYTES = 64 * 1024
_LARGEST_CONFIG_BYTES = 4 * 1024 * 1024
_PLACES = (Path("config.toml"), Path("/etc/anr-watch/config.toml"))

Table = dict[str, Given]
Tree = dict[str, Table]  # section -> key -> value; "" holds the keys above all tables
HERE = Path()


def find(environ: Mapping[str, str]) -> Path | None:
    """Return the file to use when none is named: $ANR_WATCH_CONFIG, ./config.toml or /etc/anr-watch/config.toml."""
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return next((place for place in _PLACES if place.is_file()), None)


def toml_at(path: Path, problems: list[Problem]) -> dict[str, object]:
    """Return the parsed file; empty, with a problem noted, if it cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_CONFIG_BYTES + 1)
    except OSError as error:
        problems.append(Problem("", "", f"cannot be read: {error.strerror}"))
        return {}
    if len(raw) > _LARGEST_CONFIG_BYTES:
        problems.append(Problem("", "", f"must not be larger than {_LARGEST_CONFIG_BYTES} bytes"))
        return {}
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        problems.append(Problem(f"line {line}, column {column}", "", "must be UTF-8 text"))
        return {}
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, a number of 5000 digits, 1000 brackets
        problems.append(_broken(text, error))
        return {}


def _broken(text: str, error: Exception) -> Problem:
    what = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value nobody can mean"
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", what, re.DOTALL)
    if match is None:
        return Problem("", "", f"is no valid TOML: {what}")
    lines = text.rstrip("\n").split("\n")
    line, column = match[2] or len(lines), match[3] or len(lines[-1]) + 1
    return Problem(f"line {line}, column {column}", "", f"is no valid TOML: {match[1]}")


def tree_of(document: Mapping[str, object], folder: Path, sections: tuple[str, ...], problems: list[Problem]) -> Tree:
    """Return the document as sections of given values; `sections` are the names that must be tables."""
    tree: Tree = {"": {}}
    for name, value in document.items():
        if name not in sections:
            tree[""][name] = Given(value, name, folder)
        elif isinstance(value, dict):
            tree[name] = {key: Given(item, f"{name}.{key}", folder) for key, item in value.items()}
        else:
            problems.append(Problem(name, "", f"must be a table: [{name}]"))
    return tree


def put_environment(tree: Tree, environ: Mapping[str, str], sections: tuple[str, ...], known: set[str]) -> None:
    """Put the `ANR_WATCH_*` variables over `tree`.

    A variable of another form (a container platform's `ANR_WATCH_PORT_80_TCP`) is not ours and is left alone;
    `ANR_WATCH_<SECTION>__<KEY>` always is, so that a typing error in it is found. `known` are the keys above tables.
    """
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, double, key = variable.removeprefix(PREFIX).lower().partition("__")
        if not double:
            section, key = "", section
            if key not in known:
                continue
        table = tree.setdefault(section, {}) if section in ("", *sections) else tree[""]
        if section and table is tree[""]:
            key = f"{section}.{key}"  # an unknown section: reported under the variable's name
        for other in (key.removesuffix("_file"), f"{key}_file"):  # password and password_file replace each other
            table.pop(other, None)
        table[key] = Given(environ[variable], variable, HERE, is_text=True)


def put_kernel_defaults(tree: Tree, environ: Mapping[str, str]) -> None:
    """Fill in what the kernel's own environment tells, where nothing else was said.

    Names and meanings are those of the kernel's configuration (crates/heldar-kernel/src/config.rs).
    """

    def offer(section: str, key: str, variable: str, value: str | None) -> None:
        table = tree.setdefault(section, {})
        if value and key not in table and f"{key}_file" not in table and key.removesuffix("_file") not in table:
            table[key] = Given(value, variable, HERE, is_text=True)

    data = environ.get("HELDAR_DATA_DIR")
    offer("recordings", "path", "HELDAR_RECORDINGS_DIR", environ.get("HELDAR_RECORDINGS_DIR"))
    offer("recordings", "path", "HELDAR_DATA_DIR", f"{data}/recordings" if data else None)
    # sqlite://./data/heldar.db?mode=rwc, sqlite:heldar.db
    url = re.fullmatch(r"sqlite:(?://)?([^?]+)(?:\?.*)?", environ.get("HELDAR_DATABASE_URL", ""))
    offer("database", "path", "HELDAR_DATABASE_URL", url[1] if url else None)
    offer("", "secret_key", "HELDAR_SECRET_KEY", environ.get("HELDAR_SECRET_KEY"))
    offer("", "secret_key_file", "HELDAR_SECRET_KEY_FILE", environ.get("HELDAR_SECRET_KEY_FILE"))
    offer("fills", "max_attempts", "HELDAR_ANR_MAX_ATTEMPTS", environ.get("HELDAR_ANR_MAX_ATTEMPTS"))
    offer("fills", "max_gap_hours", "HELDAR_ANR_MAX_GAP_HOURS", environ.get("HELDAR_ANR_MAX_GAP_HOURS"))


def secret_in_file(given: Given, environ: Mapping[str, str], *, instead_of: Given | None = None) -> str:
    """Return the text of the file that a `*_file` key names, without line breaks at its end.

    `credential:NAME` is the file NAME that systemd hands over with LoadCredential=.

    Raises:
        WrongValueError: it cannot be read, is empty or is no text, or the secret stands elsewhere too
            (`instead_of`); the content is never part of the message.
    """
    if instead_of is not None:
        raise WrongValueError(f"must not be set together with {instead_of.name}")
    if not isinstance(given.value, str) or not given.value or "\0" in given.value:
        raise WrongValueError("must be the path of a file that holds the secret")
    if given.value.startswith(CREDENTIAL):
        folder, name = environ.get("CREDENTIALS_DIRECTORY"), given.value.removeprefix(CREDENTIAL)
        if not folder or not name or "/" in name or name == "..":
            raise WrongValueError("must name a credential that systemd passes (LoadCredential=NAME:...)")
        path = Path(folder) / name
    else:
        path = path_in(given.folder, given.value)
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise WrongValueError(f"the file cannot be read: {error.strerror}") from None
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise WrongValueError("the file must hold UTF-8 text") from None
    if not text or len(raw) > _LARGEST_SECRET_BYTES or any(not character.isprintable() for character in text):
        raise WrongValueError("the file must hold one line of text")
    return text


def unpacked(given: Given, problems: list[Problem]) -> object:
    """Return a list or table as it stands in the file, or as JSON from the environment; None with a problem noted."""
    if not given.is_text:
        return given.value
    try:
        return listed(str(given.value))
    except WrongValueError as error:
        problems.append(Problem(given.name, "", str(error)))
        return None
