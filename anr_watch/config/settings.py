"""The settings as values, with their defaults beside them; nothing here reads a file or the environment.

Every key of `config.toml` is a field of one of these classes under the same name. What a value may be
stands in `checking.py`; the sentence that explains it to a person stands in `config.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from anr_watch.model import ReplayOptions, Secret

StoreMode = Literal["auto", "heldar", "standalone"]
MqttVersion = Literal["5", "3.1.1"]
Retained = Literal["level", "ignore"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["plain", "json"]
WatchBackend = Literal["auto", "inotify", "watchfiles"]
Discovery = Literal["off", "entities", "device"]
RecordStream = Literal["main", "sub"]
Unproved = Literal["keep", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """`[database]`: where gaps are read and results are written."""

    path: Path = Path("data/heldar.db")
    mode: StoreMode = "auto"
    busy_timeout_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingsSettings:
    """`[recordings]`: the folder tree the recorder writes and we add to."""

    path: Path = Path("data/recordings")
    name_pattern: str = "%Y%m%d_%H%M%S"
    min_free_mb: float = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FillSettings:
    """`[fills]`: what is fetched, how often it is tried, and how much at once."""

    max_attempts: int = 3
    max_gap_hours: float = 24.0
    min_gap_s: float = 3.0
    parallel: int = 8
    settle_s: float = 20.0
    sweep_s: float = 60.0  # 0: off
    max_request_s: float = 3600.0
    connect_timeout_s: float = 5.0
    stall_timeout_s: float = 10.0
    register_gaps: bool = True
    kernel_events: bool = True
    unproved: Unproved = "keep"
    live_silence_s: float = 5.0  # 0: off
    live_wait_s: float = 60.0
    stop_grace_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """`[watch]`: how changes of the database and of the recordings are noticed."""

    backend: WatchBackend = "auto"
    step_ms: int = 10
    debounce_ms: int = 50
    database: bool = True
    recordings: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRule:
    """`[[mqtt.presence]]`: which messages say that a camera is there or gone.

    `topic` holds `{camera}` exactly once; what stands there is looked up in `names`, and is the camera's
    id itself when `names` does not hold it. `preset` and `prefix` are empty in a loaded rule: `load` has put the
    preset's keys in.
    """

    number: int = 0  # of the table in the file, from 1, for messages; no key
    preset: str = ""
    prefix: str = ""  # the source's base topic; empty: the preset's usual one
    name: str = ""  # for logs; empty: the topic
    topic: str = ""
    json: str = ""  # dotted path into a JSON payload; empty: the payload is the text itself
    online: tuple[str, ...] = ("online",)
    offline: tuple[str, ...] = ("offline",)
    ignore: tuple[str, ...] = ()
    retained: Retained = "level"
    service: str = ""  # topic on which the source says whether it is there itself; empty: it does not
    service_json: str = ""
    service_online: tuple[str, ...] = ("online",)
    service_offline: tuple[str, ...] = ("offline",)
    heartbeat_s: float = 0.0  # the source repeats itself at least this often; 0: it does not
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """`[mqtt]`: the broker, our identity on it, and the presence rules. No `host`: no MQTT."""

    host: str = ""
    port: int = 1883
    username: str = ""
    password: Secret | None = None
    node: str = ""  # filled in from the host's name by `load` when empty
    base: str = "anr-watch"
    client_id: str = ""  # empty: anr-watch-<node>
    version: MqttVersion = "5"
    keepalive_s: int = 30
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tls_insecure: bool = False
    reply_prefix: str = ""  # empty: "<base>/<node>/reply/" and "anr-watch/reply/"
    session_expiry_s: int = 86400
    discovery: Discovery = "off"
    discovery_prefix: str = "homeassistant"
    presence: tuple[PresenceRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """`[metrics]`: numbers for Prometheus over HTTP. No `listen`: none."""

    listen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`: what stderr gets."""

    level: LogLevel = "info"
    format: LogFormat = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSettings:
    """`[[camera]]`: one camera where no Heldar database describes it (standalone mode).

    In the file the keys of `ReplayOptions` stand in the same table; `options` holds them merged with `[replay]`.
    """

    id: str
    name: str = ""  # empty: the id
    vendor: str = "generic"
    address: str = ""
    rtsp_port: int = 554
    username: str = ""
    password: Secret | None = None
    record_stream: RecordStream = "main"
    record_audio: bool = False
    segment_s: int = 60
    enabled: bool = True
    replay_url_template: Secret | None = None
    options: ReplayOptions = field(default_factory=ReplayOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a person can set, checked; `repr` shows no secret.

    `overrides` holds, per camera id, the `[cameras.<id>]` table merged with what it overrides, so it is complete.
    """

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    recordings: RecordingsSettings = field(default_factory=RecordingsSettings)
    fills: FillSettings = field(default_factory=FillSettings)
    replay: ReplayOptions = field(default_factory=ReplayOptions)
    watch: WatchSettings = field(default_factory=WatchSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    cameras: tuple[CameraSettings, ...] = ()
    overrides: Mapping[str, ReplayOptions] = field(default_factory=dict)
    secret_key: Secret | None = None  # base64 of 32 bytes
    source: str = "defaults"  # the file, or "defaults": for messages
