"""Builds the settings out of what was read; finds every problem before it gives up, and starts nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from anr_watch.config import checking
from anr_watch.config.broker import split_host
from anr_watch.config.presets import PRESETS, expanded
from anr_watch.config.reading import (
    HERE,
    Table,
    find,
    put_environment,
    put_kernel_defaults,
    secret_in_file,
    toml_at,
    tree_of,
    unpacked,
)
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
from anr_watch.config.values import LIMITS, Given, WrongValueError, converted
from anr_watch.errors import ConfigError, Problem
from anr_watch.model import ReplayOptions, Secret

_SECTIONS: dict[str, type] = {
    "database": DatabaseSettings,
    "recordings": RecordingsSettings,
    "fills": FillSettings,
    "replay": ReplayOptions,
    "watch": WatchSettings,
    "mqtt": MqttSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
}
_TOP = {"secret_key", "secret_key_file", "camera", "cameras"}
_NOT_KEYS = {"options", "number"}  # fields that are put together here


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, merge and check the configuration.

    Args:
        path: the file; None: the one `reading.find` finds, or none at all.
        environ: the environment; None: this process's.

    Raises:
        ConfigError: it cannot be used; holds every problem, none shows a secret.
    """
    environ = os.environ if environ is None else environ
    path = path if path is not None else find(environ)
    source = str(path) if path is not None else "defaults"
    builder = _Builder(environ, path.parent if path is not None else HERE)
    settings = builder.build(toml_at(path, builder.problems) if path is not None else {}, source)
    if not builder.unreadable:
        builder.problems += checking.check(settings, builder.wrong)
    if builder.problems:
        raise ConfigError(source if path is not None else "environment", tuple(builder.problems))
    return settings


@dataclass
class _Builder:
    environ: Mapping[str, str]
    folder: Path
    problems: list[Problem] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)  # dotted keys that have a problem already
    unreadable: bool = False

    def build(self, document: Mapping[str, object], source: str) -> Settings:
        self.unreadable = bool(self.problems)
        tree = tree_of(document, self.folder, tuple(_SECTIONS), self.problems)
        put_environment(tree, self.environ, tuple(_SECTIONS), _TOP)
        put_kernel_defaults(tree, self.environ)
        top = tree.pop("")
        built: dict[str, Any] = {}
        for name, kind in _SECTIONS.items():
            table = tree.get(name, {})
            if name == "mqtt":
                presence = table.pop("presence", None)
                table = split_host(table, self.problems)
            built[name] = kind(**self.section(name, kind, table))
            if name == "mqtt" and presence is not None:
                built[name] = replace(built[name], presence=self.rules(presence))
        mqtt = built["mqtt"]
        built["mqtt"] = replace(mqtt, node=mqtt.node or checking.slug(os.uname().nodename))
        for name in ("database", "recordings"):
            if "path" not in tree.get(name, {}):
                built[name] = replace(built[name], path=self.folder / built[name].path)
        cameras = self.cameras(top.pop("camera", None), built["replay"])
        overrides = self.overrides(top.pop("cameras", None), built["replay"], cameras)
        cameras = tuple(replace(camera, options=overrides.get(camera.id, camera.options)) for camera in cameras)
        rest = self.section("", Settings, top)
        return Settings(
            **built, cameras=cameras, overrides=overrides, secret_key=rest.get("secret_key"), source=source
        )

    def section(
        self, name: str, kind: type, table: Table, *, shown: str | None = None, beside: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the fields that a table sets, without those that are wrong; `beside` are keys read elsewhere."""
        hints = get_type_hints(kind)
        known = {item.name: item for item in fields(kind) if item.name not in _NOT_KEYS}
        if kind is Settings:
            known = {"secret_key": known["secret_key"]}
        secrets = {key for key in known if hints[key] == Secret | None}
        found: dict[str, Any] = {}
        for key, given in table.items():
            base = key.removesuffix("_file")
            try:
                if key != base and base in secrets:
                    found[base] = Secret(secret_in_file(given, self.environ, instead_of=table.get(base)))
                elif key in known:
                    if key == "names":
                        found[key] = self.names(given)
                        continue
                    value = converted(given, hints[key], LIMITS.get(f"{name}.{key}"))
                    found[key] = value if value or not isinstance(value, Secret) else None
                else:
                    self.unknown(key, given, [*known, *(f"{secret}_file" for secret in secrets), *beside])
            except WrongValueError as error:
                shown_value = "***" if base in secrets and key == base else checking.shown(given.value)
                self.problems.append(Problem(given.name, shown_value, str(error)))
                self.wrong.add(f"{shown if shown is not None else name}.{base}")
        for key, item in known.items():
            required = item.default is MISSING and item.default_factory is MISSING
            label = f"{shown}.{key}"
            if required and key not in found and label not in self.wrong:
                self.problems.append(Problem(label, "", "must be set"))
                self.wrong.add(label)
        return found

    def unknown(self, key: str, given: Given, known: list[str]) -> None:
        if known == ["secret_key", "secret_key_file"]:  # above all tables, where tables stand as well
            known = sorted({*known, *_TOP, *_SECTIONS})
        near = get_close_matches(key.rpartition(".")[2], known, n=1, cutoff=0.5)
        # The value stays out: it may be a password under a name with a typing error.
        hint = f"did you mean {near[0]}?" if near else "known here: " + ", ".join(sorted(known))
        self.problems.append(Problem(given.name, "", f"unknown key; {hint}"))

    def names(self, given: Given) -> dict[str, str]:
        value = unpacked(given, self.problems)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise WrongValueError('must be a table of texts: { "name in the topic" = "camera id" }')
        return {str(name): str(camera) for name, camera in value.items()}

    def tables(self, given: Given | None, what: str) -> list[dict[str, object]]:
        value = unpacked(given, self.problems) if given is not None else []
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return value
        if value is not None and given is not None:
            self.problems.append(Problem(given.name, "", f"must be a list of tables: [[{what}]]"))
        return []

    def rules(self, given: Given) -> tuple[PresenceRule, ...]:
        rules = []
        for number, raw in enumerate(self.tables(given, "mqtt.presence"), 1):
            at = f"mqtt.presence[{number}]"
            known = self.section("mqtt.presence", PresenceRule, self.given(raw, at), shown=at)
            rules += [PresenceRule(**keys, number=number) for keys in self.of_preset(known, at)]
        return tuple(rules)

    def of_preset(self, known: dict[str, Any], at: str) -> tuple[dict[str, Any], ...]:
        """Return the keys of the rules that one table stands for."""
        name = known.get("preset", "")
        preset = PRESETS.get(name)
        if preset is None:
            if name:
                near = get_close_matches(name, PRESETS, n=1)
                hint = f"did you mean {near[0]}?" if near else "there are " + ", ".join(PRESETS)
                self.problems.append(Problem(f"{at}.preset", checking.shown(name), f"is no preset; {hint}"))
                self.wrong.add(f"{at}.topic")
            elif known.get("prefix"):
                self.problems.append(Problem(f"{at}.prefix", checking.shown(known["prefix"]), "needs a preset"))
            return ({key: value for key, value in known.items() if key not in ("preset", "prefix")},)
        for key in preset.needs:
            if key not in known and f"{at}.{key}" not in self.wrong:
                self.problems.append(Problem(f"{at}.{key}", "", f"must be set: the preset {name} cannot know it"))
                self.wrong.add(f"{at}.topic")
        if known.get("prefix") and not preset.prefix:
            text = f"must not be set: the preset {name} has no base topic, set topic"
            self.problems.append(Problem(f"{at}.prefix", checking.shown(known["prefix"]), text))
        return expanded(preset, name, known)

    def cameras(self, given: Given | None, replay: ReplayOptions) -> tuple[CameraSettings, ...]:
        cameras = []
        options = {item.name for item in fields(ReplayOptions)}
        for number, raw in enumerate(self.tables(given, "camera"), 1):
            at = f"camera[{number}]"
            table = self.given(raw, at)
            own = {key: value for key, value in table.items() if key in options}
            rest = {key: value for key, value in table.items() if key not in options}
            found = self.section("camera", CameraSettings, rest, shown=at, beside=options)
            found["options"] = replace(replay, **self.section("replay", ReplayOptions, own, shown=at))
            if "id" not in found:
                found["id"] = ""
                self.wrong.add(f"{at}.id")
            cameras.append(CameraSettings(**found))
        return tuple(cameras)

    def overrides(
        self, given: Given | None, replay: ReplayOptions, cameras: tuple[CameraSettings, ...]
    ) -> dict[str, ReplayOptions]:
        value = unpacked(given, self.problems) if given is not None else {}
        if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
            if value is not None and given is not None:
                self.problems.append(Problem(given.name, "", "must hold one table per camera id: [cameras.<id>]"))
            return {}
        base = {camera.id: camera.options for camera in cameras}
        found = {}
        for camera_id, raw in value.items():
            at = f"cameras.{camera_id}"
            changed = self.section("replay", ReplayOptions, self.given(raw, at), shown=at)
            found[camera_id] = replace(base.get(camera_id, replay), **changed)
        return found

    def given(self, raw: Mapping[str, object], at: str) -> Table:
        return {key: Given(value, f"{at}.{key}", self.folder) for key, value in raw.items()}
