"""What the database must be before we touch it: whose it is, and whether it has the columns we name. Reads only.

Texts are one line: what is wrong, where, and what would be right.
"""

from __future__ import annotations

import stat
from enum import StrEnum
from pathlib import Path

from anr_watch.config.settings import StoreMode
from anr_watch.errors import ContractError, StoreUnavailable
from anr_watch.store.connection import Session
from anr_watch.store.schema import owner
from anr_watch.store.values import Mode

_READ = {
    "cameras": """
        id site_id name vendor address rtsp_port username password record_stream record_audio segment_seconds
        anr_enabled anr_replay_url_template enabled record_enabled record_mode
    """,
    "camera_status": "camera_id state",
}
# Written as well: no other column of these may be NOT NULL without a default.
_WRITTEN = {
    "recording_gaps": """
        id camera_id gap_start gap_end gap_seconds fill_state fill_attempts last_attempt_at filled_at created_at
    """,
    "segments": """
        id camera_id path start_time end_time duration_s codec width height size_bytes container created_at
    """,
    "events": "id camera_id site_id event_type severity timestamp payload created_at",
}
UNIQUE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("recording_gaps", ("camera_id", "gap_start")),  # two findings of one gap must not become two rows
    ("segments", ("path",)),
)


class Found(StrEnum):
    """What lies at the configured path."""

    MISSING = "missing"
    EMPTY = "empty"
    FILE = "file"


def inspect_file(path: Path) -> Found:
    """Say what lies at `path`, by `stat` alone: opening and closing it would drop SQLite's locks.

    Raises:
        ContractError: it is no regular file, or a folder on the way to it cannot be searched.
        StoreUnavailable: the file system does not answer.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Found.MISSING
    except PermissionError:
        raise ContractError(f"{path}: permission denied: run as the user that runs Heldar") from None
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ContractError(f"{path}: is a folder, not a database file (right: .../heldar.db)")
    if not stat.S_ISREG(found.st_mode):
        raise ContractError(f"{path}: is not a regular file")
    return Found.EMPTY if found.st_size == 0 else Found.FILE


async def whose(session: Session, path: Path, mode: StoreMode, *, may_create: bool) -> Mode:
    """Return whose database this is; one without any tables is ours if we may create one.

    Raises:
        ContractError: somebody else's, or not of the configured mode.
        StoreUnavailable: the kernel has not made its tables yet.
    """
    rows = await session.all(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    tables = {str(row[0]) for row in rows}
    if await owner(session) == Mode.STANDALONE:
        if mode == "heldar":
            raise ContractError(
                f'{path}: anr-watch made it in standalone mode (right: mode = "auto" or Heldar\'s file)'
            )
        return Mode.STANDALONE
    if "cameras" in tables:
        if mode == "standalone":
            raise ContractError(f'{path}: belongs to Heldar (right: mode = "heldar", or another path)')
        return Mode.HELDAR
    if "_sqlx_migrations" in tables:
        raise StoreUnavailable(f"{path}: Heldar has not made its tables yet")
    if tables:
        names = ", ".join(sorted(tables)[:3])
        raise ContractError(f"{path}: is another program's database (tables {names}): the path is wrong")
    if may_create:
        return Mode.STANDALONE
    raise StoreUnavailable(f"{path}: has no tables, Heldar is not there yet")


async def check(session: Session, path: Path) -> None:
    """Check that every table, column and unique index we depend on is there, by name.

    Raises:
        ContractError: names all that is missing.
    """
    wrong: list[str] = []
    for table, columns_text in (_READ | _WRITTEN).items():
        wanted = set(columns_text.split())
        rows = await session.all('SELECT name, "notnull", dflt_value, pk FROM pragma_table_info(?)', (table,))
        if not rows:
            wrong.append(f"table {table} is missing")
            continue
        missing = sorted(wanted - {row["name"] for row in rows})
        wrong += [f"column {table}.{column} is missing" for column in missing]
        if table in _WRITTEN:
            wrong += [
                f"column {table}.{row['name']} must be given and is unknown"
                for row in rows
                if row["notnull"] and row["dflt_value"] is None and row["name"] not in wanted
            ]
    if not wrong:
        for table, columns in UNIQUE:
            if columns not in await _unique_keys(session, table):
                wrong.append(f"{table} has no unique key ({', '.join(columns)})")
    if wrong:
        raise ContractError(f"{path}: {'; '.join(wrong)} (right: a database of Heldar 0.5)")


async def _unique_keys(session: Session, table: str) -> set[tuple[str, ...]]:
    rows = await session.all(
        "SELECT l.name AS key, i.name AS column_name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i"
        ' WHERE l."unique" = 1 AND l.partial = 0 ORDER BY l.name, i.seqno',
        (table,),
    )
    keys: dict[str, list[str]] = {}
    for row in rows:
        keys.setdefault(row["key"], []).append(row["column_name"])
    return {tuple(columns) for columns in keys.values()}
