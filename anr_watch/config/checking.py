"""What settings must be together, and the forms of names, hosts and topics. Pure but for looking whether files exist.

Every check returns problems instead of raising, so that a person sees all of them at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from difflib import get_close_matches

from anr_watch.config.settings import CameraSettings, MqttSettings, PresenceRule, Settings
from anr_watch.errors import Problem, ReplayRefused
from anr_watch.footage.names import NamePattern
from anr_watch.log import redact
from anr_watch.model import ReplayOptions
from anr_watch.replay.device_time import zone_named
from anr_watch.replay.secrets import is_sealed, key_bytes
from anr_watch.replay.urls import check_template

CAMERA = "{camera}"
TRANSPORTS = ("tcp", "udp", "http")
_NODE = re.compile(r"[a-z0-9_-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})|[0-9A-Fa-f:.]{2,45}")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")


def slug(text: str) -> str:
    """Return `text` in the form of a node id: `[a-z0-9_-]`, never empty."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-")[:64] or "node"


# Where somebody took an address for an URL: admin:secret@192.168.1.20
# It begins where a word does, so that a long one is looked at once.
_CREDENTIALS = re.compile(r"(?<![^\s\"'/@])[^\s\"'/@]*:[^@]*@")


def shown(value: object) -> str:
    """Return a value as a message may show it: short, on one line, without credentials before an @."""
    text = redact(repr(value) if isinstance(value, str) else str(value))
    last = text.rfind("@") + 1
    text = _CREDENTIALS.sub("***@", text[:last]) + text[last:]
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 80 else text[:79] + "…"


def check(settings: Settings, wrong: set[str]) -> list[Problem]:
    """Return what is wrong with the settings as a whole; keys in `wrong` have a problem already."""
    found = [
        *_database(settings),
        *_recordings(settings),
        *_options("replay", settings.replay),
        *_watch(settings),
        *_mqtt(settings.mqtt),
        *_tls(settings.mqtt),
        *_metrics(settings),
        *_presence(settings),
        *_cameras(settings),
        *_overrides(settings),
    ]
    if settings.secret_key is not None:
        try:
            key_bytes(settings.secret_key)
        except ReplayRefused:
            found.append(Problem("secret_key", "***", "must be base64 of 32 bytes (the kernel's HELDAR_SECRET_KEY)"))
    return [problem for problem in found if problem.key not in wrong]


def _database(settings: Settings) -> Iterator[Problem]:
    mode = settings.database.mode
    if mode == "heldar" and settings.cameras:
        yield Problem(
            "database.mode", shown(mode), "must not be heldar with [[camera]] tables: its database has them"
        )
    if mode == "standalone" and not settings.cameras:
        yield Problem("database.mode", shown(mode), "needs at least one [[camera]] table")


def _recordings(settings: Settings) -> Iterator[Problem]:
    try:
        NamePattern(settings.recordings.name_pattern)
    except ValueError as error:
        yield Problem("recordings.name_pattern", "", str(error))


def _watch(settings: Settings) -> Iterator[Problem]:
    watch = settings.watch
    if not (watch.database or watch.recordings or settings.fills.sweep_s or settings.mqtt.host):
        yield Problem("fills.sweep_s", "0", "must not be 0 when nothing is watched and there is no broker")


def _options(at: str, options: ReplayOptions) -> Iterator[Problem]:
    try:
        zone_named(options.timezone)
    except ReplayRefused:
        yield Problem(
            f"{at}.timezone", shown(options.timezone), "must be utc, local, or a name such as Europe/Berlin"
        )
    if options.transport not in TRANSPORTS:
        yield Problem(f"{at}.transport", shown(options.transport), f"must be one of {', '.join(TRANSPORTS)}")
    if options.tls_ca_file is not None and not options.tls_ca_file.is_file():
        yield Problem(f"{at}.tls_ca_file", shown(str(options.tls_ca_file)), "there is no such file")
    if options.tls_ca_file is not None and not options.tls_verify:
        yield Problem(f"{at}.tls_ca_file", shown(str(options.tls_ca_file)), "needs tls_verify = true")
    if options.channel is not None and not _CHANNEL.fullmatch(options.channel):
        yield Problem(f"{at}.channel", shown(options.channel), "must be letters, digits, dots, dashes: 101")


def _mqtt(mqtt: MqttSettings) -> Iterator[Problem]:
    if mqtt.host and not _HOST.fullmatch(mqtt.host):
        yield Problem(
            "mqtt.host", shown(mqtt.host), "must be a host name or IP address, or mqtt://user:password@host:port"
        )
    if not _NODE.fullmatch(mqtt.node):
        yield Problem("mqtt.node", shown(mqtt.node), f"must be of a-z 0-9 _ -, such as {slug(mqtt.node)}")
    for key, text, last in (
        ("base", mqtt.base, ""),
        ("discovery_prefix", mqtt.discovery_prefix, ""),
        ("reply_prefix", mqtt.reply_prefix, "/"),
    ):
        levels = text.removesuffix(last).split("/") if last else text.split("/")
        bad = set(text) & set("+# ") or text.startswith("$") or not all(levels)
        if bad and (key != "reply_prefix" or text):
            yield Problem(f"mqtt.{key}", shown(text), "must be topic levels without blanks, + and #: anr-watch")
    if len(mqtt.client_id) > 128:
        yield Problem("mqtt.client_id", shown(mqtt.client_id), "must not be longer than 128 characters")
    if mqtt.password is not None and not mqtt.username and mqtt.version == "3.1.1":
        yield Problem("mqtt.password", "***", "needs mqtt.username: MQTT 3.1.1 has no password without one")


def _tls(mqtt: MqttSettings) -> Iterator[Problem]:
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(mqtt, one) is not None and getattr(mqtt, other) is None:
            yield Problem(f"mqtt.{one}", shown(str(getattr(mqtt, one))), f"needs mqtt.{other}")
    for key in ("ca_file", "cert_file", "key_file", "tls_insecure"):
        value = getattr(mqtt, key)
        if value and not mqtt.tls:
            yield Problem(f"mqtt.{key}", shown(str(value)), "needs mqtt.tls = true")
        if value and key != "tls_insecure" and not value.is_file():
            yield Problem(f"mqtt.{key}", shown(str(value)), "there is no such file")


def _metrics(settings: Settings) -> Iterator[Problem]:
    listen = settings.metrics.listen
    if listen and address_of(listen) is None:
        yield Problem("metrics.listen", shown(listen), "must be an address and a port: 127.0.0.1:9532")


def address_of(listen: str) -> tuple[str, int] | None:
    """Return host and port of `127.0.0.1:9532` or `[::1]:9532`; None if it is neither. Port 0: any that is free."""
    host, _, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        return None
    return host, int(port)


def _presence(settings: Settings) -> Iterator[Problem]:
    rules = settings.mqtt.presence
    if rules and not settings.mqtt.host:
        yield Problem("mqtt.host", "", "must be set: there are [[mqtt.presence]] rules")
    names = [rule.name for rule in rules if rule.name]
    for rule in rules:
        at = f"mqtt.presence[{rule.number}]"
        if names.count(rule.name) > 1:
            yield Problem(f"{at}.name", shown(rule.name), "must not be the name of two rules")
        if fix := _topic_fix(rule.topic):
            yield Problem(f"{at}.topic", shown(rule.topic), fix)
        yield from _payloads(at, rule)
        yield from _service(at, rule)
        for key, path in (("json", rule.json), ("service_json", rule.service_json)):
            if path and not all(path.split(".")):
                yield Problem(f"{at}.{key}", shown(path), "must be names with dots between: status.online")
        for camera_id in rule.names.values():
            known = [camera.id for camera in settings.cameras]
            if fix := id_fix(camera_id):
                yield Problem(f"{at}.names", shown(camera_id), fix)
            elif known and camera_id not in known:
                yield Problem(f"{at}.names", shown(camera_id), _among(camera_id, known))


def _payloads(at: str, rule: PresenceRule) -> Iterator[Problem]:
    if not rule.online:
        yield Problem(
            f"{at}.online", "", "must list at least one payload: only a camera that comes back starts a fill"
        )
    seen: dict[str, str] = {}
    for key in ("online", "offline", "ignore"):
        for payload in getattr(rule, key):
            first = seen.setdefault(payload.strip(), key)
            if first != key:
                yield Problem(f"{at}.{key}", shown(payload), f"must not be in {first} as well")


def _service(at: str, rule: PresenceRule) -> Iterator[Problem]:
    """What is wrong with the topic on which a source speaks of itself."""
    if set(rule.service) & set("+#{}") or len(rule.service.encode()) > 1000:
        yield Problem(f"{at}.service", shown(rule.service), "must be one topic, without +, # and braces")
    both = {text.strip() for text in rule.service_online} & {text.strip() for text in rule.service_offline}
    if both:
        yield Problem(f"{at}.service_offline", shown(min(both)), "must not be in service_online as well")


def _topic_fix(topic: str) -> str:
    if not topic:
        return f'must be set: frigate/{CAMERA}/status/record, or preset = "frigate"'
    levels = topic.split("/")
    if topic.count(CAMERA) != 1:
        return f"must hold {CAMERA} exactly once, where the camera's name stands: frigate/{CAMERA}/status/record"
    if any(len(level) > 1 and set(level) & set("+#") for level in levels) or "#" in levels[:-1]:
        return "+ and # must be whole levels, and # the last one"
    if levels[0] == "$share":
        return "must not be a shared subscription: it would hide messages from this node"
    if set(topic.replace(CAMERA, "")) & set("{}") or len(topic.encode()) > 1000:
        return f"must have no other braces than {CAMERA} and at most 1000 bytes"
    return ""


def _cameras(settings: Settings) -> Iterator[Problem]:
    ids = [camera.id for camera in settings.cameras]
    for number, camera in enumerate(settings.cameras, 1):
        at = f"camera[{number}]"
        if fix := id_fix(camera.id):
            yield Problem(f"{at}.id", shown(camera.id), fix)
        elif ids.index(camera.id) != number - 1:
            yield Problem(
                f"{at}.id", shown(camera.id), f"must not be the id of camera[{ids.index(camera.id) + 1}] as well"
            )
        yield from _camera(at, camera)
        yield from _options(at, camera.options) if camera.options != settings.replay else ()


def _camera(at: str, camera: CameraSettings) -> Iterator[Problem]:
    if camera.address and (not _HOST.fullmatch(camera.address) or camera.address.count(":") == 1):
        yield Problem(
            f"{at}.address", shown(camera.address), "must be a host name or IP address; the port is rtsp_port"
        )
    template = camera.replay_url_template
    if template is None and not camera.address:
        yield Problem(f"{at}.address", "", "must be set, or replay_url_template")
    if template is not None and not is_sealed(template):
        try:
            check_template(template.reveal())
        except ReplayRefused as error:
            yield Problem(f"{at}.replay_url_template", "***", str(error))


def _overrides(settings: Settings) -> Iterator[Problem]:
    known = [camera.id for camera in settings.cameras]
    for camera_id, options in settings.overrides.items():
        at = f"cameras.{camera_id}"
        if fix := id_fix(camera_id):
            yield Problem(at, "", fix)
        elif known and camera_id not in known:
            yield Problem(at, "", _among(camera_id, known))
        if camera_id not in known and options != settings.replay:
            yield from _options(at, options)


def _among(camera_id: str, known: list[str]) -> str:
    near = get_close_matches(camera_id, known, n=1)
    return f"no [[camera]] has this id; did you mean {near[0]}?" if near else "no [[camera]] has this id"


def id_fix(camera_id: str) -> str:
    """Return what is wrong with a camera id (it is a folder name and a topic level), or nothing."""
    if not camera_id or camera_id.startswith((".", "$")) or set(camera_id) & set("/+#\\"):
        return "must be a folder name and a topic level: no / \\ + #, no . or $ in front"
    if not camera_id.isprintable() or len(camera_id.encode(errors="replace")) > 200:
        return "must have no control characters and at most 200 bytes"
    return ""
