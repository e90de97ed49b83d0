"""What all servers of one simulated camera share: its description, film, card, faults, journal and sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from anr_watch.camera.audio import Tone
from anr_watch.camera.auth import Authenticator, AuthScheme
from anr_watch.camera.faults import Faults
from anr_watch.camera.film import Film, FilmSpec
from anr_watch.camera.journal import Journal
from anr_watch.camera.kinds import AudioKind
from anr_watch.camera.storage import Storage
from anr_watch.camera.strain import Strain
from anr_watch.clock import Clock


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """A camera as it leaves the factory.

    `replay_speed` is footage seconds per second, 0 for as fast as the client takes it. `zone` is the zone of
    the camera's wall clock, which Dahua URLs are written in. `replay_limit` is how many replay sessions it
    serves at once over RTSP, `http_limit` how many downloads over HTTP (0: any number). Port 0 lets the system
    choose. `stored_film` is what its card holds, where that is another encoding than it sends live. `changed_film` is
    what it holds from some moment on, see the fault `change_after_s`. With `tls` (files with certificate and key)
    both ports speak TLS only, and the URLs are `rtsps` and `https`.
    """

    name: str = "cam"
    film: FilmSpec = field(default_factory=FilmSpec)
    audio: AudioKind = AudioKind.NONE
    username: str = "admin"
    password: str = field(default="camera", repr=False)
    auth: AuthScheme = AuthScheme.DIGEST
    host: str = "127.0.0.1"
    rtsp_port: int = 0
    http_port: int = 0
    replay_limit: int = 1
    http_limit: int = 0
    replay_speed: float = 0.0
    clock_offset_s: float = 0.0
    zone: str = "UTC"
    mtu_bytes: int = 1400
    report_every_s: float = 5.0
    stored_film: FilmSpec | None = None
    changed_film: FilmSpec | None = None
    tls: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        """Take the plain texts of enumerations, too.

        Raises:
            ValueError: a kind of sound or authentication that does not exist, or a stored film of other pictures.
        """
        if self.stored_film is not None and self.stored_film.fps != self.film.fps:
            raise ValueError("the stored film has another frame rate than the live one")
        changed = self.changed_film
        if changed is not None and (changed.fps, changed.gop_frames) != (self.film.fps, self.film.gop_frames):
            raise ValueError("the changed film has other groups of pictures than the live one")
        object.__setattr__(self, "audio", AudioKind(self.audio))
        object.__setattr__(self, "auth", AuthScheme(self.auth))


class Core:
    """The camera behind its servers."""

    def __init__(self, spec: CameraSpec, clock: Clock) -> None:
        self.spec = spec
        self.clock = clock
        self.film = Film(spec.film)
        self._stored_film = self.film if spec.stored_film is None else Film(spec.stored_film)
        self.changed_film = self.film if spec.changed_film is None else Film(spec.changed_film)
        self.tone = Tone(spec.audio)
        self.storage = Storage(spec.stored_film or spec.film, clock)
        self.storage.clock_offset_s = spec.clock_offset_s
        self.faults = Faults()
        self.journal = Journal(clock, spec.name)
        self.strain = Strain(lambda: self.faults, clock.monotonic)
        self.peak_replays = 0
        self._replays: set[str] = set()
        self._lingering: list[float] = []
        self._downloads = 0
        self._other_film = lru_cache(maxsize=4)(self._film_of)

    @property
    def zone(self) -> tzinfo:
        """Zone of the camera's wall clock."""
        return ZoneInfo(self.spec.zone)

    @property
    def utc_read_as(self) -> tzinfo:
        """Zone in which digits that say UTC are read: UTC, unless the camera is at fault."""
        return ZoneInfo(self.faults.local_time) if self.faults.local_time else UTC

    @property
    def active_replays(self) -> int:
        """Replay sessions now open."""
        return len(self._replays)

    def replay_busy(self) -> bool:
        """Return whether no further replay session can be opened."""
        now_s = self.clock.monotonic()
        self._lingering = [until_s for until_s in self._lingering if until_s > now_s]
        return len(self._replays) + len(self._lingering) >= self.spec.replay_limit

    def open_replay(self, session: str) -> None:
        """Count a replay session."""
        self._replays.add(session)
        self.peak_replays = max(self.peak_replays, len(self._replays))

    def close_replay(self, session: str, *, torn_down: bool) -> None:
        """Stop counting a replay session; one that was not torn down may linger. Unknown ones are ignored."""
        if session in self._replays:
            self._replays.remove(session)
            if not torn_down and self.faults.session_linger_s > 0:
                self._lingering.append(self.clock.monotonic() + self.faults.session_linger_s)

    def http_busy(self) -> bool:
        """Return whether no further download can begin."""
        return 0 < self.spec.http_limit <= self._downloads

    @contextmanager
    def download(self) -> Iterator[None]:
        """Count a download while it lasts."""
        self._downloads += 1
        try:
            yield
        finally:
            self._downloads -= 1

    def authenticator(self) -> Authenticator:
        """Return the authentication of a new connection."""
        return Authenticator(self.spec.auth, self.spec.username, self.spec.password)

    def film_shown(self, faults: Faults, *, live: bool) -> Film:
        """Return the camera's film, live or stored, or another camera's while that fault is on."""
        if faults.other_camera is not None:
            return self._other_film(faults.other_camera)
        return self.film if live else self._stored_film

    def _film_of(self, camera_number: int) -> Film:
        return Film(replace(self.spec.film, camera_number=camera_number))
