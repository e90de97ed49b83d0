"""The program with every change of a file written down; run as a script, for the daemon and for its forking parent.

    python tests/torture/traced.py daemon TRACE ROOT DATABASE ARGUMENT...
    python -P tests/torture/traced.py forkserver TRACE ROOT DATABASE SOCKET_FD

Calls below ROOT are appended to TRACE as JSON lines, each after it was done and before its caller goes on, so the
order of lines is the order of effects. `wal` is the length of the database's log at that moment.
"""
# The functions of `os` are the subject here, and the program is loaded after they are wrapped:
# ruff: noqa: PTH100, PTH109, PTH112, PTH115, PTH117, PTH118, PLC0415

import base64
import json
import os
import shutil  # noqa: F401 - looks at os while it is loaded: must see the real functions
import sys

_open, _close, _write, _fsync = os.open, os.close, os.write, os.fsync
_stat, _fstat = os.stat, os.fstat


class Trace:
    """Wrappers around the functions of `os` that change files."""

    def __init__(self, trace: str, root: str, database: str) -> None:
        self._root, self._wal = os.path.realpath(root), f"{database}-wal"
        self._fd = _open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _path(self, path: object, dir_fd: int | None = None) -> str | None:
        text = os.fsdecode(path)
        if not os.path.isabs(text):
            text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd(), text)
        text = os.path.normpath(text)
        return os.path.relpath(text, self._root) if text.startswith(self._root) else None

    def _node(self, fd: int) -> int | None:
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return None
        return _fstat(fd).st_ino if path.startswith(self._root) else None

    def note(self, **facts: object) -> None:
        try:
            facts["wal"] = _stat(self._wal).st_size
        except FileNotFoundError:
            facts["wal"] = 0
        _write(self._fd, json.dumps(facts).encode() + b"\n")

    def install(self) -> None:
        """Put the wrappers into `os`; whoever imports them by name later gets them, too."""

        def open_(path, flags, mode=0o777, *, dir_fd=None):
            fd = _open(path, flags, mode, dir_fd=dir_fd)
            at = self._path(path, dir_fd)
            if at is not None and flags & (os.O_CREAT | os.O_TRUNC):
                self.note(op="create", path=at, node=_fstat(fd).st_ino, cut=bool(flags & os.O_TRUNC))
            return fd

        def write(fd, data):
            count = _write(fd, data)
            node = self._node(fd)
            if node is not None:
                self.note(op="write", node=node, data=base64.b64encode(bytes(data)[:count]).decode())
            return count

        def fsync(fd):
            _fsync(fd)
            node = self._node(fd)
            if node is not None:
                path = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self._root)
                self.note(op="sync_folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync", node=node, path=path)

        os.open, os.write, os.fsync = open_, write, fsync
        for name, op, count in (
            ("link", "link", 2),
            ("rename", "rename", 2),
            ("replace", "rename", 2),
            ("unlink", "unlink", 1),
            ("remove", "unlink", 1),
            ("mkdir", "mkdir", 1),
            ("rmdir", "rmdir", 1),
        ):
            self._around(name, op, count)

    def _around(self, name: str, op: str, count: int) -> None:
        plain = getattr(os, name)

        def done(*arguments, **named):
            result = plain(*arguments, **named)
            paths = [self._path(path, named.get("dir_fd")) for path in arguments[:count]]
            if any(path is not None for path in paths):
                self.note(op=op, paths=paths)
            return result

        setattr(os, name, done)


def main() -> None:
    role, trace, root, database, *rest = sys.argv[1:]
    Trace(trace, root, database).install()
    if role == "forkserver":
        from anr_watch.replay import forkserver

        sys.exit(forkserver.main(int(rest[0])))
    import asyncio

    from anr_watch import cli

    plain = asyncio.create_subprocess_exec

    async def spawn(program, *arguments, **named):
        if "anr_watch.replay.forkserver" in arguments:
            arguments = ("-P", os.path.abspath(__file__), "forkserver", trace, root, database, arguments[-1])
        return await plain(program, *arguments, **named)

    asyncio.create_subprocess_exec = spawn
    sys.argv = ["anr-watch", *rest]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
