"""SQLite connections: pragmas, transactions that finish whatever happens to their caller, errors in our words.

It knows no table. Three rules that others rely on: every write is one BEGIN IMMEDIATE transaction, a read fetches all
its rows at once (an open cursor would pin the write-ahead log: 41 MB were seen), and either runs on the connection's
thread from its first statement to its last. A turn per statement cost 0.1 ms each on a quiet machine and up to 3 ms
on a busy one, and a transaction of ours has about ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import aiosqlite

from anr_watch.errors import AnrWatchError, ContractError, StorageError, StoreUnavailable
from anr_watch.store.rows import decode_text

T = TypeVar("T")
Access = Literal["ro", "rw", "rwc"]  # as in SQLite's URI parameter `mode`
Work = Callable[["Session"], Coroutine[object, None, T]]

# SQLite itself waits this long for a lock; the rest of the busy time is spent asking again, so that a
# cancelled caller and a stop are noticed within it.
_LOCK_STEP_S = 0.25
_FEWEST_TRIES = 3  # SQLITE_BUSY_SNAPSHOT comes at once, without any waiting
_DB_MOVED = sqlite3.SQLITE_READONLY_DBMOVED


def in_our_words(error: sqlite3.Error, path: Path) -> AnrWatchError | None:
    """Return the error of ours that says what the caller can do; None if it is a mistake of this program."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    what = f"{path}: {error}"
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(f"{path}: locked by another program")
        case sqlite3.SQLITE_READONLY if code == _DB_MOVED:
            return StoreUnavailable(f"{path}: was moved or replaced")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_INTERRUPT | sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_PROTOCOL:
            return StoreUnavailable(what)
        case sqlite3.SQLITE_FULL:
            return StorageError(f"{path}: no room on the database's disk", full=True)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StorageError(f"{path}: the database cannot be written (file or folder is read-only)")
        case sqlite3.SQLITE_IOERR:
            return StorageError(what)
        case sqlite3.SQLITE_NOTADB:
            return ContractError(f"{path}: is not an SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return ContractError(f"{path}: the database is corrupt ({error})")
        case _:  # no such table or column, constraint of somebody else: the schema is not what we know
            return ContractError(what)


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn what SQLite raises inside into errors of ours; the rim of the store."""
    try:
        yield
    except sqlite3.Error as error:
        ours = in_our_words(error, path)
        if ours is None:
            raise
        raise ours from error
    except ValueError as error:
        # aiosqlite's two texts for a connection that was closed.
        if str(error) not in ("Connection closed", "no active connection"):
            raise
        raise StoreUnavailable(f"{path}: the store is closed") from error


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether the same call may work a moment later (SQLITE_BUSY with its kinds, SQLITE_LOCKED)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Session:
    """One connection as the SQL modules see it: a statement in, all of its rows out.

    Its methods never suspend, so the work that is written with them runs through in one go, on another thread than
    the loop's: it may wait for nothing else, and touch nothing of the loop's.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def all(self, sql: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Run one statement to its end and return its rows."""
        return self._connection.execute(sql, parameters).fetchall()

    def each(self, sql: str, parameters: Mapping[str, object]) -> Iterator[tuple[Any, ...]]:
        """Run one statement and yield its rows as plain tuples: for millions of them, to be gone through at once.

        Until the last one is taken the write-ahead log cannot be emptied, so nothing may be waited for in between.
        """
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, parameters)

    async def one(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Row | None:
        """Run one statement to its end and return its first row."""
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None

    async def number(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Return the single whole number a statement yields."""
        row = await self.one(sql, parameters)
        return int(row[0]) if row is not None and row[0] is not None else 0


async def carry_out(connection: aiosqlite.Connection, work: Work[T]) -> T:
    """Run `work` on the connection's thread and return its result."""
    return await _on_its_thread(connection, partial(_driven, connection, work))


async def carry_out_whole(connection: aiosqlite.Connection, work: Work[T]) -> T:
    """Run `work` on the connection's thread as one IMMEDIATE transaction and return its result."""
    return await _on_its_thread(connection, partial(_committed, connection, work))


async def _on_its_thread(connection: aiosqlite.Connection, function: Callable[[], T]) -> T:
    execute: Callable[[Callable[[], T]], Awaitable[T]] = connection._execute  # noqa: SLF001 - its own way to its thread
    return await execute(function)


def _driven(connection: aiosqlite.Connection, work: Work[T]) -> T:
    running = work(Session(connection._conn))  # noqa: SLF001 - the connection that belongs to the thread
    try:
        running.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    running.close()
    raise RuntimeError("work on a connection waits for something else than its statements")


def _committed(connection: aiosqlite.Connection, work: Work[T]) -> T:
    database = connection._conn  # noqa: SLF001 - same
    try:
        database.execute("BEGIN IMMEDIATE")
        value = _driven(connection, work)
        database.execute("COMMIT")
    except BaseException:
        # Nothing happens when SQLite has rolled back by itself (disk full) or BEGIN was refused.
        database.rollback()
        raise
    return value


@contextlib.asynccontextmanager
async def connect(path: Path, access: Access, busy_timeout_s: float) -> AsyncIterator[aiosqlite.Connection]:
    """Open the database for `access` (`ro`, `rw`: must exist; `rwc`: is created), close it at the end."""
    timeout_s = min(_LOCK_STEP_S, busy_timeout_s / _FEWEST_TRIES)
    connection = aiosqlite.connect(  # noqa: TID251 - the one place
        _uri(path, access), uri=True, isolation_level=None, timeout=timeout_s
    )
    async with connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = decode_text
        yield connection


class Reader:
    """The read-only side: any number of callers, each read complete in itself."""

    def __init__(self, connection: aiosqlite.Connection, path: Path, busy_timeout_s: float) -> None:
        self._connection = connection
        self._path = path
        self._tries = _tries(busy_timeout_s)

    async def read(self, work: Work[T]) -> T:
        """Return what `work` reads; it must not write (`query_only` is on).

        Raises:
            StoreUnavailable, StorageError, ContractError: see `in_our_words`.
        """
        with mapped(self._path):
            for _ in range(self._tries - 1):
                try:
                    return await carry_out(self._connection, work)
                except sqlite3.OperationalError as error:
                    if not is_busy(error):
                        raise
            return await carry_out(self._connection, work)


class Writer:
    """The writing side: one transaction at a time, redone while the database is busy, never left half done."""

    def __init__(self, connection: aiosqlite.Connection, path: Path, busy_timeout_s: float) -> None:
        self._connection = connection
        self._path = path
        self._tries = _tries(busy_timeout_s)
        self._turn = asyncio.Lock()
        self.steps = 0  # beginnings and ends of transactions

    @property
    def at_work(self) -> bool:
        """Whether a transaction runs or waits for a lock, so that the connection may not answer at once."""
        return self._turn.locked()

    async def rest(self, within_s: float) -> None:
        """Wait until the present transactions are over, but no longer than this: one may wait for a lock."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._turn:
                pass

    async def peek(self, work: Work[T]) -> T:
        """Return what `work` reads on this connection outside a transaction (see `at_work`)."""
        with mapped(self._path):
            return await carry_out(self._connection, work)

    async def transact(self, work: Work[T]) -> T:
        """Run `work` as one IMMEDIATE transaction and return its result; `work` may be run more than once.

        A cancelled caller gets its CancelledError after the transaction was committed or rolled back, never
        in the middle: aiosqlite would run the statement all the same and leave it to the next commit.

        Raises:
            StoreUnavailable: the database stayed locked for the whole busy time.
            StorageError, ContractError: see `in_our_words`.
        """
        given_up = asyncio.Event()
        task = asyncio.create_task(  # noqa: TID251 - owned by this call, which never returns before its end
            self._captured(work, given_up), name="store:transaction"
        )
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            given_up.set()
            while not task.done():
                # Further cancellations change nothing: the first one is raised as soon as the work is over.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            raise
        return result()

    async def _captured(self, work: Work[T], given_up: asyncio.Event) -> Callable[[], T]:
        """Run the transaction; an error becomes a result, which a cancelled caller may leave unread."""
        try:
            with mapped(self._path):
                value = await self._redone(work, given_up)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who alone can decide
            return partial(_fail, error)
        return lambda: value

    async def _redone(self, work: Work[T], given_up: asyncio.Event) -> T:
        async with self._turn:
            for _ in range(self._tries):
                if given_up.is_set():
                    break
                self.steps += 1
                try:
                    return await carry_out_whole(self._connection, work)
                except sqlite3.OperationalError as error:
                    if not is_busy(error):
                        raise
                finally:
                    self.steps += 1
        raise StoreUnavailable(f"{self._path}: locked by another program")


def _uri(path: Path, access: str) -> str:
    return f"{path.absolute().as_uri()}?mode={access}"


def _fail(error: Exception) -> NoReturn:
    raise error


def _tries(busy_timeout_s: float) -> int:
    return max(_FEWEST_TRIES, math.ceil(busy_timeout_s / _LOCK_STEP_S))
