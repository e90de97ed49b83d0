"""Configuration: `config.toml` and the environment become frozen, checked settings, or every problem at once."""

from anr_watch.config.loading import load
from anr_watch.config.reading import find
from anr_watch.config.settings import (
    CameraSettings,
    DatabaseSettings,
    FillSettings,
    LogSettings,
    MetricsSettings,
    MqttSettings,
    PresenceRule,
    RecordingsSettings,
    Settings,
    WatchSettings,
)

__all__ = [
    "CameraSettings",
    "DatabaseSettings",
    "FillSettings",
    "LogSettings",
    "MetricsSettings",
    "MqttSettings",
    "PresenceRule",
    "RecordingsSettings",
    "Settings",
    "WatchSettings",
    "find",
    "load",
]
