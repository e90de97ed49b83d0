"""Runs a program in what of a systemd unit's sandbox needs no systemd: `python sandbox.py UNIT PROGRAM [ARGUMENT]`.

No new privileges, an empty bounding set of capabilities, the umask, and as seccomp filters SystemCallFilter,
SystemCallErrorNumber, RestrictAddressFamilies and MemoryDenyWriteExecute, the way systemd builds them (252,
seccomp-util.c). The sets of calls come from `systemd-analyze syscall-filter`; file system and devices stay as they are.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
PROT_WRITE, PROT_EXEC = 2, 4
EQ, MASKED_EQ = 4, 7


class Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def unit(path: Path) -> dict[str, list[str]]:
    """Return the keys of a unit's [Service] with all their values, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section == "Service" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value.strip())
    return found


def calls(name: str) -> set[str]:
    """Return the system calls of a set, sets in it opened."""
    if not name.startswith("@"):
        return {name}
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    )
    members = [line.strip() for line in said.stdout.splitlines()[1:]]
    return set().union(*(calls(member) for member in members if member and not member.startswith("#")))


def filtered(settings: list[str]) -> set[str]:
    """Return the calls that SystemCallFilter lines leave: those of the first, with and without the others."""
    allowed: set[str] = calls("@default")
    for value in settings:
        names = set().union(*(calls(name) for name in value.removeprefix("~").split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed


class Filter:
    """One seccomp filter; loaded ones add up."""

    def __init__(self, library: ctypes.CDLL, default: int) -> None:
        self._library = library
        library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, name: str, *compare: Compare) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # not a call of this machine
            return
        array = (Compare * max(1, len(compare)))(*compare)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(compare), array
        )
        if done not in (0, -errno.EACCES, -errno.EDOM):  # the default already, or not for this machine
            raise OSError(-done, f"{name}: {os.strerror(-done)}")

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        if done:
            raise OSError(-done, os.strerror(-done))


def enter(settings: dict[str, list[str]]) -> None:
    """Put this process, and what it becomes, into the unit's sandbox."""
    last = {key: values[-1] for key, values in settings.items()}
    os.umask(int(last.get("UMask", "0022"), 8))
    libc = ctypes.CDLL(None, use_errno=True)
    if last.get("CapabilityBoundingSet") == "" and os.geteuid() == 0:
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if last["NoNewPrivileges"] == "yes":
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    library = ctypes.CDLL("libseccomp.so.2")
    refused = ERRNO | getattr(errno, last["SystemCallErrorNumber"])
    allowed = filtered(settings["SystemCallFilter"])
    others = Filter(library, ALLOW)
    families = [getattr(socket, name) for name in last["RestrictAddressFamilies"].split()]
    for family in range(46):
        if family not in families:
            others.rule(ERRNO | errno.EAFNOSUPPORT, "socket", Compare(0, EQ, family, 0))
    if last["MemoryDenyWriteExecute"] == "yes":
        both = PROT_WRITE | PROT_EXEC
        others.rule(ERRNO | errno.EPERM, "mmap", Compare(2, MASKED_EQ, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            others.rule(ERRNO | errno.EPERM, name, Compare(2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
    others.load()
    first = Filter(library, refused)
    for name in sorted(allowed):
        first.rule(ALLOW, name)
    first.load()


if __name__ == "__main__":
    enter(unit(Path(sys.argv[1])))
    os.execv(sys.argv[2], sys.argv[2:])
