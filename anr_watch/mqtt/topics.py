"""The names on the broker: every topic this program publishes or subscribes to under its own base. Pure.

<base>/<node>/status | info | cmd/<verb> | reply/<verb> | camera/<camera level>/state | event
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MAX_TOPIC_BYTES = 65_535  # MQTT 3.1.1 and 5, 1.5.3: the length of a text has two bytes
_LONGEST_LEVEL = 100


def camera_level(camera_id: str) -> str:
    """Return the topic level for a camera: its id where that can be a level, else a slug of it.

    A level must not hold `/`, `+`, `#`, white space, control characters or what UTF-8 cannot carry. The slug is
    the id with each of these replaced by `-`, then `~` and 16 hex digits of its SHA-256. Ids that themselves hold
    a `~` are treated alike, so that no id equals another one's slug. The level of an id never changes.
    """
    legible = camera_id.isprintable() and not set(camera_id) & set("/+#~ ")
    if legible and 0 < len(camera_id) <= _LONGEST_LEVEL and not camera_id.startswith("$"):
        return camera_id
    digest = hashlib.sha256(camera_id.encode(errors="surrogatepass")).hexdigest()[:16]
    kept = "".join(char if char.isprintable() and char not in "/+#~ $" else "-" for char in camera_id)
    return f"{kept[: _LONGEST_LEVEL - 17]}~{digest}"


def can_publish(topic: str) -> bool:
    """Say whether a message may be sent to `topic` at all (MQTT 5, 4.7: no wildcards, no NUL, not empty)."""
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return 0 < size <= MAX_TOPIC_BYTES and not set(topic) & set("+#\x00")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node."""

    base: str
    node: str

    @property
    def root(self) -> str:
        """`<base>/<node>`: everything of this node lies under it."""
        return f"{self.base}/{self.node}"

    @property
    def status(self) -> str:
        """Retained `online` or `offline`; the will goes there too."""
        return f"{self.root}/status"

    @property
    def info(self) -> str:
        """Retained description of the node."""
        return f"{self.root}/info"

    @property
    def commands(self) -> str:
        """The filter for commands."""
        return f"{self.root}/cmd/+"

    def verb(self, topic: str) -> str | None:
        """Return the verb if `topic` is one of this node's command topics."""
        before, _, verb = topic.rpartition("/")
        return verb if before == f"{self.root}/cmd" else None

    def reply(self, verb: str) -> str:
        """Return where the answer to a command goes when the sender names no topic of its own."""
        return f"{self.root}/reply/{verb}"

    def state(self, camera_id: str) -> str:
        """Return the topic of a camera's retained state."""
        return f"{self.root}/camera/{camera_level(camera_id)}/state"

    def event(self, camera_id: str) -> str:
        """Return the topic of a camera's events."""
        return f"{self.root}/camera/{camera_level(camera_id)}/event"
