"""The URL that asks one camera for one window: templates, vendors' time forms, credentials, masking. Pure.

Rules:

* Tokens: `{start}` `{end}` (Hikvision's 20260613T120500Z), `{start:%Y_%m_%d_%H_%M_%S}` (any strftime form whose
  directives do not depend on the locale; a blank in it becomes %20), `{start_unix}` `{end_unix}` `{start_ms}`
  `{end_ms}` `{duration_s}` `{start_rfc3339}` `{end_rfc3339}` `{channel}` `{address}` `{port}` `{user}` `{password}`.
* What goes out covers the window: starts are rounded down and ends up to what the form can express, and both
  keep out of the hour that repeats in autumn (`device_time.py`).
* Digits are local to the camera's `timezone`; unix and ms tokens are not. `{start}` ends in `Z` whatever the zone:
  Hikvision recorders read local digits with a `Z` behind them.
* Without a template the camera is asked in Hikvision's way, as the kernel does.
* A template without credentials gets the camera's, when it has a username and the template points at the camera's
  own address (or the camera has none). One that points elsewhere, at a recorder, gets them only where it says
  `{user}` and `{password}`: a camera's password is not for another machine.
* Schemes rtsp, rtsps, http, https. No blanks, no control characters. `@` only before the host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from anr_watch.errors import ReplayRefused
from anr_watch.model import Camera, Device, Secret, Window
from anr_watch.replay.template import Times, Token, parsed

SEALED_PREFIX = "enc:v1:"
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_HIKVISION = "rtsp://{address}:{port}/Streaming/tracks/{channel}?starttime={start}&endtime={end}"
_LONGEST = 4000  # libav's own limit, MAX_URL_SIZE, is 4096

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", re.ASCII)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://([^/?#]*)(.*)", re.DOTALL)
_QUERY_SECRET = re.compile(
    r"((?:pass(?:word|wd|wort)?|pwd|psw|pw|token|secret|api_?key|auth)=)[^&\s#;\"'<>]+", re.IGNORECASE
)
_SAMPLE = Window(datetime(2026, 6, 13, 12, 5, tzinfo=UTC), datetime(2026, 6, 13, 12, 6, tzinfo=UTC))
_SAMPLE_PASSWORD = "anr-watch-sample-4f1c"  # noqa: S105 - stands in for a real one while a template is checked


# The fields that decide about a URL; the others (a camera's status) change all the time.
_TELLING = ("address", "rtsp_port", "username", "record_stream", "replay_url_template", "options")
_NOBODY = Camera(id="", name="")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is asked: the URL, the window its digits mean (at least the wanted one), the host that gets it."""

    url: Secret
    asked: Window
    device: Device


def build_replay_request(camera: Camera, window: Window, *, password: Secret | None) -> ReplayRequest:
    """Return the URL that asks `camera` for at least `window`, with the window that its digits stand for.

    Args:
        camera: the camera; a sealed template must have been opened, see `secrets.open_camera`.
        window: what is wanted, margins already added.
        password: the opened password; `camera.password`, as stored, is not looked at.

    Raises:
        ReplayRefused: nothing can be asked; `missing` is set when there is neither template nor address.
    """
    # Outside these years zones and unix times stop working, and no camera has footage.
    if window.start.year < 1970 or window.end.year > 9990:
        raise ReplayRefused("the window lies outside the years 1970 to 9990")
    parts = parsed(_template_of(camera))
    times = Times.of(parts, window, camera.options.timezone)
    if Token("password") in parts:
        sample = _filled(parts, lambda token: _value(token, camera, times, Secret(_SAMPLE_PASSWORD)))
        if _SAMPLE_PASSWORD in mask_url(sample):
            raise ReplayRefused(
                "{password} stands where logs could not mask it (right: before the @, or as password={password})"
            )
    url = _filled(parts, lambda token: _value(token, camera, times, password))
    url, device = _checked(url)
    if not any(isinstance(part, Token) and part.name in ("user", "password") for part in parts):
        url = _with_credentials(url, device, camera, password)
    if len(url) > _LONGEST:
        raise ReplayRefused(f"the replay URL is longer than {_LONGEST} characters")
    return ReplayRequest(Secret(url), times.asked, device)


def device_of(camera: Camera) -> Device:
    """Return host (lower case) and port of the URL that would be asked: the lane that takes one replay at a time.

    Remembered per camera row, since every pass of the planner asks (about 10 us instead of 100 to 200).

    Raises:
        ReplayRefused: as for `build_replay_request`.
    """
    return _device(replace(_NOBODY, **{name: getattr(camera, name) for name in _TELLING}))


@lru_cache(maxsize=16_384)  # an entry exists only for a row that was asked for, about 1 KB each
def _device(camera: Camera) -> Device:
    return build_replay_request(camera, _SAMPLE, password=Secret(_SAMPLE_PASSWORD)).device


def check_template(template: str) -> None:
    """Check a template before any camera uses it.

    Raises:
        ReplayRefused: it can never make a URL, and why.
    """
    camera = Camera(id="sample", name="sample", address="192.0.2.1", username="sample")
    if template.strip():
        device_of(replace(camera, replay_url_template=Secret(template)))


def mask_url(text: str) -> str:
    """Return `text` with everything between `://` and the last `@` of each word replaced by `***`.

    A little more than the authority is masked when an `@` stands behind it: a password with a raw `/` in it
    would show otherwise. Values of `password=`, `pwd=`, `token=` and the like are masked as well.
    """
    return _QUERY_SECRET.sub(r"\1***", re.sub(r"\S+", _masked_word, text))


def _masked_word(match: re.Match[str]) -> str:
    word = match[0]
    scheme, at = word.find("://"), word.rfind("@")
    return f"{word[: scheme + 3]}***{word[at:]}" if 0 <= scheme < at else word


def _template_of(camera: Camera) -> str:
    text = camera.replay_url_template.reveal().strip() if camera.replay_url_template else ""
    if text.startswith(SEALED_PREFIX):
        raise ReplayRefused("the replay URL template is sealed and was not opened")
    if text:
        return text
    if not (camera.address or "").strip():
        raise ReplayRefused(
            "no replay URL: the camera has neither a replay URL template nor an address", missing=True
        )
    return _HIKVISION


def _filled(parts: Sequence[str | Token], value: Callable[[Token], str]) -> str:
    return "".join(part if isinstance(part, str) else value(part) for part in parts)


def _value(token: Token, camera: Camera, times: Times, password: Secret | None) -> str:
    match token.name:
        case "channel":
            default = "102" if camera.record_stream == "sub" else "101"
            return _encoded(camera.options.channel or default)
        case "address":
            return _address(camera)
        case "port":
            return str(camera.rtsp_port)
        case "user":
            if not camera.username:
                raise ReplayRefused("the replay URL template says {user}, but the camera has no username")
            return _encoded(camera.username)
        case "password":
            if password is None:
                raise ReplayRefused("the replay URL template says {password}, but the camera has no password")
            return _encoded(password.reveal())
        case _:
            return times.value(token) or ""


def _encoded(text: str) -> str:
    """Percent-encode everything but RFC 3986's unreserved characters, as the kernel does."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ReplayRefused("a username, password or channel holds characters that are not Unicode text") from None


def _address(camera: Camera) -> str:
    text = (camera.address or "").strip()
    if not text:
        raise ReplayRefused("the replay URL template says {address}, but the camera has no address", missing=True)
    host = _host(text if text.startswith("[") or text.count(":") < 2 else f"[{text}]")
    return f"[{host}]" if ":" in host else host


def _host(text: str) -> str:
    """Return a checked host in lower case, an IPv6 one without its brackets."""
    if text.startswith("[") and text.endswith("]"):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            address = None
        if address is not None and address.scope_id is None:
            return str(address)
    elif _NAME.fullmatch(text):
        return text.lower()
    raise ReplayRefused(
        "the host of the replay URL is no host name or IP address (right: 192.168.1.20, cam.lan, [2001:db8::20])"
    )


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, credentials with their `@` (or nothing), host with port, and the rest."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ReplayRefused("the replay URL has no scheme (right: rtsp://, rtsps://, http:// or https://)")
    credentials, at, host = match[2].rpartition("@")
    return match[1].lower(), credentials + at, host, match[3]


def _checked(url: str) -> tuple[str, Device]:
    if any(not character.isprintable() or character.isspace() for character in url):
        raise ReplayRefused("the replay URL holds a blank or a control character (a blank is %20)")
    scheme, credentials, host_port, rest = _split(url)
    if scheme not in DEFAULT_PORTS:
        raise ReplayRefused("the scheme of the replay URL is not allowed (right: rtsp, rtsps, http or https)")
    if "@" in rest:
        raise ReplayRefused(
            "the replay URL has an @ behind the host (write @ as %40, and in a password / as %2F, ? as %3F, # as %23)"
        )
    if set(credentials) & set("[]"):
        raise ReplayRefused("the replay URL has a bracket before the @ (write [ as %5B and ] as %5D)")
    host, colon, port = host_port, "", ""
    if not host_port.endswith("]"):
        host, colon, port = host_port.rpartition(":") if ":" in host_port else (host_port, "", "")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ReplayRefused("the port of the replay URL is not a number from 1 to 65535")
    device = Device(_host(host), int(port) if colon else DEFAULT_PORTS[scheme])
    # Letters outside ASCII stay what they are, in the form a URL has for them.
    whole_url = f"{scheme}://{credentials}{host_port}{rest}"
    return "".join(c if c.isascii() else _encoded(c) for c in whole_url), device


def _with_credentials(url: str, device: Device, camera: Camera, password: Secret | None) -> str:
    scheme, credentials, host_port, rest = _split(url)
    if credentials or not camera.username:
        return url
    if (camera.address or "").strip():
        own = _address(camera)
        if own.strip("[]") != device.host:
            return url
    secret = f":{_encoded(password.reveal())}" if password is not None else ""
    return f"{scheme}://{_encoded(camera.username)}{secret}@{host_port}{rest}"
