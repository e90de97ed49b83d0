"""Coming back after a lost connection: how long to wait, what to tell a person, and how often. Waits for nothing."""

from __future__ import annotations

import logging
from collections import deque

from anr_watch.log import Repeated
from anr_watch.mqtt.link import LinkLost

LOG = logging.getLogger("anr_watch.mqtt")
FIRST_DELAY_S, LAST_DELAY_S = 0.5, 60.0
RIVAL_TIMES, RIVAL_WITHIN_S = 3, 60.0  # so many take-overs say that somebody else uses our client id
TOLD_AGAIN_S = 600.0


class Trouble:
    """One line per kind of failure and half minute; another kind is told at once."""

    def __init__(self, what: str) -> None:
        self._what, self._text = what, ""
        self._repeated = Repeated(LOG, what)

    def failed(self, lost: LinkLost, at_s: float) -> None:
        """Note a failure at monotonic `at_s`."""
        if str(lost) != self._text:
            self._text, self._repeated = str(lost), Repeated(LOG, self._what)
        self._repeated.failed(lost, at_s)

    def worked(self) -> None:
        """Note a connection; the first after failures is told with their number."""
        self._text = ""
        self._repeated.worked()


class Rivals:
    """Notices that another client uses our id: each of the two throws the other out, for ever."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._times_s: deque[float] = deque(maxlen=RIVAL_TIMES)
        self._told_s: float | None = None

    def taken_over(self, now_s: float, *, surely: bool) -> bool:
        """Note one take-over, and say whether there are so many that only waiting longer helps."""
        self._times_s.append(now_s)
        if len(self._times_s) < RIVAL_TIMES or now_s - self._times_s[0] > RIVAL_WITHIN_S:
            return False
        if self._told_s is None or now_s - self._told_s > TOLD_AGAIN_S:
            self._told_s = now_s
            LOG.error(
                "thrown out by the broker %d times within %.0f s: %s client connects as %r; "
                "give each node its own mqtt.node or mqtt.client_id",
                RIVAL_TIMES,
                RIVAL_WITHIN_S,
                "another" if surely else "probably another",
                self._client_id,
            )
        return True

    def forget(self) -> None:
        """Note that the broker was away: then it was no rival that ended our connections."""
        self._times_s.clear()


def back_off_s(failures: int, chance: float, *, slow: bool = False) -> float:
    """Return the wait in seconds after so many failures in a row, `chance` in [0, 1) being the jitter.

    0.5 s at first, doubling to 60 s, of which the upper half is random so that many nodes do not come back together.
    """
    longest = LAST_DELAY_S if slow else min(LAST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures, 10))
    return max(FIRST_DELAY_S, longest * (0.5 + chance / 2))
