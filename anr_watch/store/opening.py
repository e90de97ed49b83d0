"""Opening the database: whose it is, whether we can work beside its owner, our own tables brought up to date.

The only place where it is opened, once per run. Its files are never opened by other means, not even to copy or hash
them: closing a plain descriptor drops SQLite's locks, and another process may then delete the write-ahead log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import datetime
from errno import ENOSPC
from pathlib import Path
from typing import Final

import aiosqlite

from anr_watch.clock import Clock
from anr_watch.config.settings import CameraSettings, DatabaseSettings
from anr_watch.errors import ContractError, StorageError, StoreUnavailable
from anr_watch.lockfile import LockFile
from anr_watch.model import ReplayOptions
from anr_watch.store import contract, outbox, schema
from anr_watch.store.connection import Access, Reader, Session, Writer, carry_out, connect, mapped
from anr_watch.store.reading import Options
from anr_watch.store.store import Store, identity_of
from anr_watch.store.values import Mode

LOCK_SUFFIX: Final = ".anr-watch.lock"  # never the database itself: closing it would drop SQLite's locks
_PRIVATE = 0o600


@asynccontextmanager
async def open_store(
    settings: DatabaseSettings,
    clock: Clock,
    *,
    cameras: Sequence[CameraSettings] = (),
    overrides: Mapping[str, ReplayOptions] | None = None,
    replay: ReplayOptions | None = None,
    max_gap_hours: float = 24.0,
    readonly: bool = False,
    sole: bool = False,
    outbox_rows: int = outbox.MAX_ROWS,
) -> AsyncIterator[Store]:
    """Open the database, check that we can work beside its owner, and bring our own tables up to date.

    `readonly` creates, migrates and writes nothing, and works beside a running daemon. `max_gap_hours` bounds
    what counts as missing in facts, waits and status. `sole` keeps every other process away that asks for it: two
    daemons on one database would take each other's attempts for those of a dead process.

    Raises:
        InUse: `sole`, and another process has it.
        StoreUnavailable: the database is not there yet, not ready, or locked for the whole busy time.
        ContractError: it is not a database we can work with, in one line.
        StorageError: it cannot be written.
    """
    path, busy_s = settings.path, settings.busy_timeout_s
    options = Options(cameras, overrides or {}, replay or ReplayOptions())
    is_ours = settings.mode == "standalone" or (settings.mode == "auto" and bool(cameras))
    may_create = is_ours and not readonly
    async with AsyncExitStack() as stack:
        found = await asyncio.to_thread(contract.inspect_file, path)
        create = may_create and found is not contract.Found.FILE
        if found is not contract.Found.FILE and not create:
            who = ", `anr-watch run` creates it" if is_ours else ""
            raise StoreUnavailable(f"{path}: the database is not there yet{who}")
        if create:
            await asyncio.to_thread(_make_folder, path)
        if sole:
            stack.enter_context(await asyncio.to_thread(_locked, path))
        if create:
            await asyncio.to_thread(_make_file, path)
        access: Access = "ro" if readonly else "rwc" if create else "rw"
        first = await stack.enter_async_context(_connected(path, access, busy_s))
        identity = await asyncio.to_thread(identity_of, path)
        prober = Reader(first, path, busy_s)
        mode = await prober.read(lambda session: contract.whose(session, path, settings.mode, may_create=may_create))
        if create:
            await asyncio.to_thread(path.chmod, _PRIVATE)  # an empty file that was there already
        await _set_pragmas(first, path, write=not readonly, ours=mode is Mode.STANDALONE)
        if mode is Mode.HELDAR or readonly:
            await prober.read(lambda session: contract.check(session, path))
        if readonly:
            writer, reader = None, prober
            prepared = await reader.read(lambda session: schema.is_prepared(session, path))
        else:
            writer = Writer(first, path, busy_s)
            await writer.transact(lambda session: _prepare(session, mode, path, cameras, clock.now()))
            second = await stack.enter_async_context(_connected(path, "rw", busy_s))
            await _set_pragmas(second, path, write=False, ours=False)
            reader, prepared = Reader(second, path, busy_s), True
        if identity is None or await asyncio.to_thread(identity_of, path) != identity:
            raise StoreUnavailable(f"{path}: was replaced while it was opened")
        yield Store(
            path=path,
            identity=identity,
            mode=mode,
            prepared=prepared,
            clock=clock,
            reader=reader,
            writer=writer,
            options=options,
            max_gap_hours=max_gap_hours,
            outbox_rows=outbox_rows,
        )


@asynccontextmanager
async def _connected(path: Path, access: Access, busy_timeout_s: float) -> AsyncIterator[aiosqlite.Connection]:
    """Open a connection; only opening it is mapped, errors of the body are the body's."""
    async with AsyncExitStack() as stack:
        with mapped(path):
            connection = await stack.enter_async_context(connect(path, access, busy_timeout_s))
        yield connection


async def _prepare(
    session: Session, mode: Mode, path: Path, cameras: Sequence[CameraSettings], now: datetime
) -> None:
    await schema.migrate(session, mode, path)
    if mode is Mode.STANDALONE:
        await schema.configure_cameras(session, cameras, now)
        await contract.check(session, path)
    await schema.prune(session, now)


def _locked(path: Path) -> ExitStack:
    """Take the lock beside the database; links are followed, so that one database has one lock."""
    real = Path(os.path.realpath(path))
    lock = LockFile(real.with_name(real.name + LOCK_SUFFIX), path)
    try:
        lock.take()
    except OSError as error:
        raise StorageError(f"{lock.path}: cannot be locked: {error.strerror}", full=error.errno == ENOSPC) from error
    held = ExitStack()
    held.callback(lock.release)
    return held


async def _set_pragmas(connection: aiosqlite.Connection, path: Path, *, write: bool, ours: bool) -> None:
    """Set what the kernel sets on its own connections; the journal mode of its database is never changed."""

    async def work(session: Session) -> None:
        if not write:
            await session.all("PRAGMA query_only = on")
            return
        if ours:
            await session.all("PRAGMA journal_mode = wal")
        await session.all("PRAGMA foreign_keys = on")
        journal = await session.one("PRAGMA journal_mode")
        if journal is not None and journal[0] == "wal":
            await session.all("PRAGMA synchronous = normal")  # safe in WAL mode only

    with mapped(path):
        await carry_out(connection, work)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ContractError(f"{path.parent}: the database's folder cannot be made: {error.strerror}") from error


def _make_file(path: Path) -> None:
    """Make an empty file for us alone: it will name every camera, and SQLite gives its other files the same mode."""
    try:
        # Nobody has locks on a file that was not there: the one time a descriptor of our own does no harm.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))
    except FileExistsError:
        return  # an empty one, or its owner was quicker: SQLite and the contract say what it is
    except OSError as error:
        raise ContractError(f"{path}: the database cannot be made: {error.strerror}") from error
