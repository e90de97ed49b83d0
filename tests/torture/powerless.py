"""What a disk may hold after the power failed: a model of a file system that keeps only what was synced.

    disk = Disk(root)                       # what is there now counts as on disk
    disk.apply(call)                        # calls of `traced.py`, one after the other
    disk.after_power_loss(chance, loss)     # {path: content} as it may be found then

POSIX promises no more than this: `fsync` of a file brings its content to disk, `fsync` of a folder its entries.
Everything else may be there, in part or not at all, and entries may be there without their content.
"""

import base64
import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath


class Loss(StrEnum):
    """How much of what was not synced is lost."""

    ALL = "all"
    CONTENT = "content"  # every entry is there, but content that was not synced reads as zeros
    SOME = "some"  # chance decides, for each folder and each file


@dataclass
class Node:
    """A file: what it holds, and what of that is on disk."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""

    def found(self, chance: random.Random, loss: Loss) -> bytes:
        unsynced = bytes(self.content[len(self.synced) :])
        if bytes(self.content[: len(self.synced)]) != self.synced:
            unsynced = b""  # it was cut since; what was synced is as good as anything
        if loss is Loss.ALL or not unsynced:
            return self.synced
        if loss is Loss.CONTENT:
            return self.synced + bytes(len(unsynced))
        kept = chance.randrange(len(unsynced) + 1)
        torn = min(chance.choice([0, 512, 4096]), len(unsynced) - kept)
        return self.synced + unsynced[:kept] + bytes(torn)


@dataclass
class Folder:
    """Entries as they are, and the changes of them that no sync has brought to disk, in order."""

    synced: dict[str, "Node | Folder"] = field(default_factory=dict)
    changes: list[tuple[str, "Node | Folder | None"]] = field(default_factory=list)

    @property
    def entries(self) -> dict[str, "Node | Folder"]:
        return _changed(self.synced, self.changes)

    def sync(self) -> None:
        self.synced, self.changes = self.entries, []

    def found(self, chance: random.Random, loss: Loss) -> dict[str, "Node | Folder"]:
        kept = {Loss.ALL: 0, Loss.CONTENT: len(self.changes), Loss.SOME: chance.randrange(len(self.changes) + 1)}
        return _changed(self.synced, self.changes[: kept[loss]])


def _changed(entries: dict, changes: list) -> dict:
    found = dict(entries)
    for name, there in changes:
        if there is None:
            found.pop(name, None)
        else:
            found[name] = there
    return found


class Disk:
    """Everything below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Folder()
        self._nodes: dict[int, Node] = {}
        for path in sorted(root.rglob("*")):
            parent = self._folder(PurePosixPath(path.relative_to(root)).parent)
            if path.is_dir():
                parent.synced[path.name] = Folder()
            else:
                data = path.read_bytes()
                parent.synced[path.name] = self._nodes[path.stat().st_ino] = Node(bytearray(data), data)

    def apply(self, call: dict) -> None:
        """Take one call that was made."""
        match call["op"]:
            case "create":
                self._create(call["path"], call["node"], cut=call["cut"])
            case "write":
                self._nodes[call["node"]].content += base64.b64decode(call["data"])
            case "sync":
                node = self._nodes[call["node"]]
                node.synced = bytes(node.content)
            case "sync_folder":
                self._folder(PurePosixPath(call["path"])).sync()
            case "link":
                self._put(call["paths"][1], self._at(call["paths"][0]))
            case "rename":
                self._put(call["paths"][1], self._at(call["paths"][0]))
                self._put(call["paths"][0], None)
            case "mkdir":
                self._put(call["paths"][0], Folder())
            case "unlink" | "rmdir":
                self._put(call["paths"][0], None)
            case unknown:
                raise AssertionError(f"a call without a model: {unknown}")

    def after_power_loss(self, chance: random.Random, loss: Loss) -> dict[str, bytes | None]:
        """Return what is found: content by path, None for a folder."""
        found: dict[str, bytes | None] = {}

        def walk(folder: Folder, at: PurePosixPath) -> None:
            for name, there in folder.found(chance, loss).items():
                if isinstance(there, Folder):
                    found[str(at / name)] = None
                    walk(there, at / name)
                else:
                    found[str(at / name)] = there.found(chance, loss)

        walk(self.root, PurePosixPath())
        return found

    def _create(self, path: str, number: int, *, cut: bool) -> None:
        where = PurePosixPath(path)
        there = self._folder(where.parent).entries.get(where.name)
        if isinstance(there, Node):
            self._nodes[number] = there
            if cut:
                there.content.clear()
        elif there is None:
            node = self._nodes[number] = Node()
            self._put(path, node)

    def _folder(self, path: PurePosixPath) -> Folder:
        folder = self.root
        for name in path.parts:
            folder = folder.entries[name]
        return folder

    def _at(self, path: str) -> Node | Folder:
        where = PurePosixPath(path)
        return self._folder(where.parent).entries[where.name]

    def _put(self, path: str, there: Node | Folder | None) -> None:
        where = PurePosixPath(path)
        self._folder(where.parent).changes.append((where.name, there))


def lay_out(found: dict[str, bytes | None], root: Path) -> None:
    """Write what was found to `root`, which must not exist."""
    root.mkdir()
    for path, content in found.items():
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
