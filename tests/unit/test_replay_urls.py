"""Replay URLs: what goes out covers the window in every zone, and nothing of a password comes out anywhere else."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anr_watch.errors import ReplayRefused
from anr_watch.model import Camera, Device, ReplayOptions, Secret, Window
from anr_watch.replay.urls import build_replay_request, check_template, device_of, mask_url

CAMERA = Camera(id="a", name="a", address="192.168.0.2", username="admin")
PASSWORD = Secret("p@ss/w:rd")
START, END = datetime(2026, 6, 13, 12, 0, tzinfo=UTC), datetime(2026, 6, 13, 12, 1, 30, tzinfo=UTC)
WINDOW = Window(START, END)
ZONES = ["utc", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
DAHUA = "rtsp://{address}/cam/playback?starttime={start:%Y_%m_%d_%H_%M_%S}&endtime={end:%Y_%m_%d_%H_%M_%S}"


def with_template(template: str, **options) -> Camera:
    camera = replace(CAMERA, replay_url_template=Secret(template))
    return replace(camera, options=ReplayOptions(**options))


def url(template: str, window: Window = WINDOW, **options) -> str:
    return build_replay_request(with_template(template, **options), window, password=PASSWORD).url.reveal()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# ---- the default


def test_the_default_is_the_kernels_own_url():
    assert build_replay_request(CAMERA, WINDOW, password=PASSWORD).url.reveal() == (
        "rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:554/Streaming/tracks/101"
        "?starttime=20260613T120000Z&endtime=20260613T120130Z"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"record_stream": "sub"}, "rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:554/Streaming/tracks/102?"),
        (
            {"options": ReplayOptions(channel="301")},
            "rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:554/Streaming/tracks/301?",
        ),
        ({"username": None}, "rtsp://192.168.0.2:554/Streaming/"),
        ({"username": ""}, "rtsp://192.168.0.2:554/Streaming/"),
        ({"address": "2001:db8::20"}, "rtsp://admin:p%40ss%2Fw%3Ard@[2001:db8::20]:554/"),
        ({"address": "[2001:DB8::20]", "rtsp_port": 8554}, "rtsp://admin:p%40ss%2Fw%3Ard@[2001:db8::20]:8554/"),
        ({"address": " Cam.LAN "}, "rtsp://admin:p%40ss%2Fw%3Ard@cam.lan:554/"),
        ({"replay_url_template": Secret("  ")}, "rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:554/"),
        ({"username": "ö b"}, "rtsp://%C3%B6%20b:p%40ss%2Fw%3Ard@"),
    ],
)
def test_the_default_for_other_cameras(change, expected):
    assert (
        build_replay_request(replace(CAMERA, **change), WINDOW, password=PASSWORD).url.reveal().startswith(expected)
    )


def test_a_user_without_a_password():
    assert (
        build_replay_request(CAMERA, WINDOW, password=None).url.reveal().startswith("rtsp://admin@192.168.0.2:554/")
    )


def test_the_default_prints_local_digits_with_the_z_that_recorders_expect():
    camera = replace(CAMERA, options=ReplayOptions(timezone="Europe/Berlin"))
    assert "starttime=20260613T140000Z&endtime=20260613T140130Z" in (
        build_replay_request(camera, WINDOW, password=None).url.reveal()
    )


@pytest.mark.parametrize("change", [{"address": None}, {"address": " "}])
def test_nothing_to_ask_is_a_refusal_of_its_own_kind(change):
    with pytest.raises(ReplayRefused) as caught:
        build_replay_request(replace(CAMERA, **change), WINDOW, password=None)
    assert caught.value.missing


# ---- tokens


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("rtsp://h/{start}-{end}", "rtsp://h/20260613T120000Z-20260613T120130Z"),
        ("rtsp://h/{start_unix}/{end_unix}", "rtsp://h/1781352000/1781352090"),
        ("http://h/{start_ms}/{end_ms}", "http://h/1781352000000/1781352090000"),
        ("http://h/get?s={start_rfc3339}&d={duration_s}", "http://h/get?s=2026-06-13T12:00:00Z&d=90"),
        ("rtsp://h/{start:%Y-%m-%d %H:%M:%S}", "rtsp://h/2026-06-13%2012:00:00"),
        ("rtsp://h/{start:%Y-%m-%d%%20%T}", "rtsp://h/2026-06-13%2012:00:00"),
        ("rtsp://h/{start:%-m/%-d/%-H}:{start:%M%S}", "rtsp://h/6/13/12:0000"),
        ("rtsp://h/d={start:%Y%m%d}&t={start:%H%M%S}&l={duration_s}", "rtsp://h/d=20260613&t=120000&l=90"),
        ("rtsp://h/{start:%j.%y.%b.%s}", "rtsp://h/164.26.Jun.1781352000"),
        (
            "rtsp://{address}:{port}/{channel}/{start}",
            "rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:554/101/20260613T120000Z",
        ),
        ("rtsp://{user}:{password}@nvr/{start}", "rtsp://admin:p%40ss%2Fw%3Ard@nvr/20260613T120000Z"),
        ("http://h/?u={user}&pwd={password}&s={start}", "http://h/?u=admin&pwd=p%40ss%2Fw%3Ard&s=20260613T120000Z"),
        ("RTSP://h/ü/{start}", "rtsp://h/%C3%BC/20260613T120000Z"),
        (" rtsp://h/{start} ", "rtsp://h/20260613T120000Z"),
    ],
)
def test_tokens(template, expected):
    assert url(template) == expected


def test_offsets_in_rfc3339_and_in_forms_are_percent_encoded():
    template = "http://h/?s={start_rfc3339}&t={start:%Y-%m-%dT%H:%M:%S%z}"
    assert url(template, timezone="Europe/Berlin") == (
        "http://h/?s=2026-06-13T14:00:00%2B02:00&t=2026-06-13T14:00:00%2B0200"
    )
    assert "08:00:00-04:00" in url(template, timezone="America/New_York")


def test_unix_and_ms_tokens_do_not_know_the_zone():
    template = "rtsp://h/{start_unix}/{end_ms}/{duration_s}"
    assert url(template) == url(template, timezone="Asia/Kathmandu")


def test_whole_units_cover_the_window():
    window = Window(START + timedelta(milliseconds=900, microseconds=1), END + timedelta(microseconds=1))
    assert url("rtsp://h/{start}/{end}", window) == "rtsp://h/20260613T120000Z/20260613T120131Z"
    assert url("rtsp://h/{start_unix}/{end_unix}", window) == "rtsp://h/1781352000/1781352091"
    assert url("rtsp://h/{start_ms}/{end_ms}", window) == "rtsp://h/1781352000900/1781352090001"
    assert url("rtsp://h/{start:%H%M}/{end:%H%M}", window) == "rtsp://h/1200/1202"
    # A date beside a time of day does not round to days.
    assert url("rtsp://h/{start}/{end:%d}/{end:%H%M%S}", window).endswith("/13/120131")
    # Sub-second forms are exact, and a length counts from the start that is sent.
    assert url("rtsp://h/{start:%S.%f}", window) == "rtsp://h/00.900001"
    assert url("rtsp://h/{start_unix}/{duration_s}", window) == "rtsp://h/1781352000/90.001"
    assert url("rtsp://h/{start_rfc3339}/{duration_s}", window) == "rtsp://h/2026-06-13T12:00:00.900001Z/89.1"


def test_what_was_asked_is_told():
    window = Window(START + timedelta(seconds=0.5), END + timedelta(seconds=0.5))
    request = build_replay_request(CAMERA, window, password=None)
    assert request.asked == Window(START, END + timedelta(seconds=1))
    assert request.device == Device("192.168.0.2", 554)


# ---- credentials


def test_a_template_at_the_cameras_own_address_gets_its_credentials():
    assert url("rtsp://192.168.0.2:8554/x?{start}").startswith("rtsp://admin:p%40ss%2Fw%3Ard@192.168.0.2:8554/x?")


def test_a_camera_without_an_address_gives_them_to_its_template():
    camera = replace(with_template("rtsp://nvr/{start}"), address=None)
    assert (
        build_replay_request(camera, WINDOW, password=PASSWORD)
        .url.reveal()
        .startswith("rtsp://admin:p%40ss%2Fw%3Ard@nvr/")
    )


def test_another_machine_does_not_get_the_cameras_password():
    assert url("rtsp://nvr.lan/{start}") == "rtsp://nvr.lan/20260613T120000Z"


def test_credentials_in_a_template_stay():
    assert url("rtsp://u:p@192.168.0.2/{start}").startswith("rtsp://u:p@192.168.0.2/")


@pytest.mark.parametrize("token", ["user", "password"])
def test_missing_credentials_are_told(token):
    camera = replace(with_template(f"rtsp://{{{token}}}@h/{{start}}"), username=None)
    with pytest.raises(ReplayRefused, match=f"no {token}"):
        build_replay_request(camera, WINDOW, password=None)


# ---- zones


def read_back(text: str, zone: ZoneInfo, fold: int) -> datetime:
    local = datetime.strptime(text, "%Y_%m_%d_%H_%M_%S").replace(tzinfo=zone, fold=fold)
    return local.astimezone(UTC)


@pytest.mark.parametrize(
    ("start", "end", "digits"),
    [
        # Spring in Berlin: 02:00 to 03:00 does not exist; each end has its own offset.
        ("2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", ("01_30_00", "03_30_00")),
        ("2026-03-29T01:30:00+01:00", "2026-03-29T01:59:59.5+01:00", ("01_30_00", "03_00_00")),
        # Autumn: 02:00 to 03:00 exists twice. Outside nothing changes ...
        ("2026-10-25T01:30:00+02:00", "2026-10-25T03:30:00+01:00", ("01_30_00", "03_30_00")),
        ("2026-10-25T03:00:00+01:00", "2026-10-25T03:30:00+01:00", ("03_00_00", "03_30_00")),
        # ... inside, the start goes before the hour, and the end of the second pass behind it.
        ("2026-10-25T02:10:00+02:00", "2026-10-25T02:20:00+02:00", ("01_59_59", "02_20_00")),
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00", ("01_59_59", "03_00_00")),
        ("2026-10-25T02:10:00+01:00", "2026-10-25T02:20:00+01:00", ("01_59_59", "03_00_00")),
        ("2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+01:00", ("01_00_00", "03_00_00")),
    ],
)
def test_both_sides_of_a_change_of_the_clock(start, end, digits):
    window = Window(at(start), at(end))
    found = re.findall(r"_(\d\d_\d\d_\d\d)\b", url(DAHUA, window, timezone="Europe/Berlin"))
    assert tuple(found) == digits


def test_unix_tokens_are_exact_inside_the_repeated_hour():
    window = Window(at("2026-10-25T02:10:00+01:00"), at("2026-10-25T02:20:00+01:00"))
    assert url("rtsp://h/{start_unix}", window, timezone="Europe/Berlin").endswith(str(int(window.start.timestamp())))
    assert "02:10:00%2B0100" in url("rtsp://h/{start:%H:%M:%S%z}", window, timezone="Europe/Berlin")


def test_local_is_the_zone_of_this_machine(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert url("rtsp://h/{start}", timezone="local").endswith("/20260613T080000Z")
        window = Window(at("2026-11-01T01:10:00-05:00"), at("2026-11-01T01:20:00-05:00"))
        assert url("rtsp://h/{start}/{end}", window, timezone="local") == url(
            "rtsp://h/{start}/{end}", window, timezone="America/New_York"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("zone", ["Mars/Base", "Europe", "../../etc/passwd", "", "/etc/localtime", "utc\n", "a\0b"])
def test_unknown_zones_are_refused(zone):
    with pytest.raises(ReplayRefused, match="time zone"):
        url("rtsp://h/{start}", timezone=zone)


# Half of the instants lie around the autumn changes of 2026 in the zones above, where the traps are.
CHANGES = [
    at("2026-10-25T01:00:00Z"),
    at("2026-11-01T04:30:00Z"),
    at("2026-04-04T15:00:00Z"),
    at("2026-02-15T02:00:00Z"),
]
MOMENTS = st.one_of(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda change, off: change + timedelta(seconds=off),
        st.sampled_from(CHANGES),
        st.floats(-8000, 8000).map(lambda seconds: round(seconds, 3)),
    ),
)


@settings(max_examples=250, deadline=None)
@given(MOMENTS, st.floats(0.001, 90_000), st.sampled_from(ZONES))
def test_whatever_a_device_makes_of_the_digits_it_is_asked_for_the_whole_window(start, length, zone):
    window = Window(start, start + timedelta(seconds=length))
    request = build_replay_request(with_template(DAHUA, timezone=zone), window, password=None)
    first, last = re.findall(r"time=([0-9_]+)", request.url.reveal())
    assert first < last
    tz = ZoneInfo(zone) if zone != "utc" else UTC
    starts = {read_back(first, tz, fold) for fold in (0, 1)}
    assert starts == {request.asked.start}  # one meaning only: the footage cannot be dated an hour wrong
    assert request.asked.start <= window.start
    assert all(read_back(last, tz, fold) >= window.end for fold in (0, 1))
    slack = timedelta(hours=2, seconds=2)
    assert window.start - request.asked.start < slack
    assert request.asked.end - window.end < slack


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.floats(0.001, 90_000), st.sampled_from(ZONES))
def test_exact_forms_round_trip(start, length, zone):
    window = Window(start, start + timedelta(seconds=length))
    template = "http://h/{start_rfc3339}/{end_rfc3339}/{start_ms}/{end_ms}/{start_unix}/{duration_s}"
    parts = unquote(urlsplit(url(template, window, timezone=zone)).path).split("/")[1:]
    assert (at(parts[0]), at(parts[1])) == (window.start, window.end)
    millis = [datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(part)) for part in parts[2:4]]
    assert timedelta() <= window.start - millis[0] < timedelta(milliseconds=1)
    assert timedelta() <= millis[1] - window.end < timedelta(milliseconds=1)
    counted = datetime.fromtimestamp(int(parts[4]), UTC) + timedelta(seconds=float(parts[5]))
    assert timedelta() <= counted - window.end + timedelta(microseconds=1) < timedelta(milliseconds=2)


@pytest.mark.parametrize("year", [1, 1969, 9995])
def test_windows_far_off_are_refused(year):
    start = datetime(year, 1, 2, tzinfo=UTC)
    with pytest.raises(ReplayRefused, match="1970"):
        url("rtsp://h/{start}", Window(start, start + timedelta(hours=1)))


# ---- refusals


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("rtsp://h/{strat}", r"did you mean \{start\}"),
        ("rtsp://h/{zzzzzz}", "unknown token at character 10; known"),
        ("rtsp://h/{start", "lone brace at character 10"),
        ("rtsp://h/start}", "lone brace"),
        ("rtsp://h/{{start}}", "lone brace"),
        ("rtsp://h/{}{start}", "unknown token"),
        ("rtsp://h/{start:}", "no such form"),
        ("rtsp://h/{start:abc}", "no % directive"),
        ("rtsp://h/{start:%Q}", "unknown % directive"),
        ("rtsp://h/{start:%c}", "unknown % directive"),
        ("rtsp://h/{start:%Y%}", "unknown % directive"),
        ("rtsp://h/{start:%Y%n}", "unknown % directive"),
        ("rtsp://h/{start:%Y\n}", "control character"),
        ("rtsp://h/{start_unix:%Y}", "no such form"),
        ("rtsp://h/{port:%Y}{start}", "no such form"),
        ("rtsp://h/live", "no start token"),
        ("rtsp://h/{end}", "no start token"),
        ("file:///etc/passwd?{start}", "scheme"),
        ("gopher://h/{start}", "scheme"),
        ("concat:rtsp://h/{start}", "no scheme|scheme"),
        ("/etc/passwd{start}", "no scheme"),
        ("rtsp:h/{start}", "no scheme"),
        ("{start}://h/", "no scheme"),
        ("rtsp://h/a b{start}", "blank"),
        ("rtsp://h/\n{start}", "blank or a control"),
        ("rtsp://h/\u00a0{start}", "blank or a control"),
        ("rtsp://h/\u2028{start}", "blank or a control"),
        ("rtsp://h/\x7f{start}", "blank or a control"),
        ("rtsp:///{start}", "no host name"),
        ("rtsp://h:/{start}", "port"),
        ("rtsp://h:0/{start}", "port"),
        ("rtsp://h:65536/{start}", "port"),
        ("rtsp://h:\uff11/{start}", "port"),
        ("rtsp://u:p/w@h/{start}", "@ behind the host"),
        ("rtsp://u:1/w@h/{start}", "@ behind the host"),
        ("rtsp://u:1?w@h/{start}", "@ behind the host"),
        ("rtsp://[::1/{start}", "host"),
        ("rtsp://[fe80::1%25eth0]/{start}", "host"),
        ("rtsp://{channel}@@/{start}", "host"),
        ("rtsp://h/{password}/{start}", "could not mask"),
        ("rtsp://{password}.h/{start}", "could not mask"),
        ("rtsp://h/{start}" + "x" * 4000, "longer"),
        ("enc:v1:AAAA", "sealed"),
    ],
)
def test_templates_that_are_refused(template, text):
    with pytest.raises(ReplayRefused, match=text) as caught:
        url(template)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    with pytest.raises(ReplayRefused):
        check_template(template)


@pytest.mark.parametrize(
    "address", ["h/x", "u@h", "h:554", "a b", "h#", "[::1", "::g", "fe80::1%eth0", "h\nx", "é.lan"]
)
def test_addresses_that_are_no_hosts_are_refused(address):
    with pytest.raises(ReplayRefused):
        build_replay_request(replace(CAMERA, address=address), WINDOW, password=PASSWORD)
    with pytest.raises(ReplayRefused):
        device_of(replace(CAMERA, address=address))


def test_a_good_template_passes_the_check():
    check_template("rtsp://{user}:{password}@h/{start:%s}")
    check_template("")


# ---- the device


@pytest.mark.parametrize(
    ("template", "device"),
    [
        ("rtsp://NVR.lan/{start}", Device("nvr.lan", 554)),
        ("rtsps://h/{start}", Device("h", 322)),
        ("http://h/{start}", Device("h", 80)),
        ("HTTPS://h/{start}", Device("h", 443)),
        ("https://a:b@h:8443?{start}", Device("h", 8443)),
        ("rtsp://[2001:DB8:0::1]:55/{start}", Device("2001:db8::1", 55)),
        ("rtsp://{address}:{port}/{start}", Device("192.168.0.2", 554)),
    ],
)
def test_the_device_is_the_host_that_would_be_asked(template, device):
    assert device_of(with_template(template)) == device


def test_the_device_needs_no_opened_password():
    assert device_of(with_template("rtsp://{user}:{password}@h/{start}")) == Device("h", 554)


# ---- masking and hostile input


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/x", "rtsp://***@10.0.0.1:554/x"),
        ("rtsp://user:p@ss@10.0.0.1:554/x", "rtsp://***@10.0.0.1:554/x"),
        ("rtsp://user:p/s@10.0.0.1/x", "rtsp://***@10.0.0.1/x"),
        ("rtsp://10.0.0.1:554/x", "rtsp://10.0.0.1:554/x"),
        ("no url, a@b", "no url, a@b"),
        ("open rtsp://a:b@h/x failed; http://c:d@i/?y=1", "open rtsp://***@h/x failed; http://***@i/?y=1"),
        ("http://h/?user=u&password=p%40&x=1", "http://h/?user=u&password=***&x=1"),
        ("http://h/?PWD=abc#f", "http://h/?PWD=***#f"),
        ("http://h/user=a_password=b_channel=1", "http://h/user=a_password=***"),
        ("http://h/?access_token=abc", "http://h/?access_token=***"),
        ("", ""),
    ],
)
def test_mask_url(text, masked):
    assert mask_url(text) == masked


def test_masking_a_long_hostile_text_takes_no_time():
    started = time.perf_counter()
    for text in ("://" * 100_000, "a://" * 50_000 + "@", "password=" * 50_000, "pass" * 50_000, "@" * 300_000):
        mask_url(text)
    assert time.perf_counter() - started < 20  # quadratic would be minutes


PASSWORDS = st.text(min_size=0, max_size=12).map(lambda text: f"S3cr{text}Zq9")
PIECES = st.sampled_from(
    [
        "{start}",
        "{end}",
        "{start:%Y}",
        "{start:%H%M%S}",
        "{end_unix}",
        "{password}",
        "{user}",
        "{channel}",
        "{address}",
        "{port}",
        "{duration_s}",
        "{strat}",
        "{",
        "}",
        "{start:",
        "rtsp://",
        "http://",
        "file://",
        ":",
        "@",
        "/",
        "?",
        "#",
        "&",
        "=",
        "%",
        "%0a",
        "\n",
        "\x00",
        "\t",
        "h",
        "192.168.0.2",
        "password=",
        "pwd=",
        "[",
        "]",
        "[::1]",
        "é",
        "�",
        "S3cr",
    ]
)


@settings(max_examples=250, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join), PASSWORDS, st.sampled_from(["admin", "u:p@/", None]))
@example("rtsp://{user}:{password}@h/{start}?password={password}", "S3crZq9", "admin")
def test_hostile_templates_raise_nothing_but_refusals_and_show_no_password(template, password, user):
    camera = replace(CAMERA, username=user, replay_url_template=Secret(template))
    refusals = []
    made = None
    try:
        made = build_replay_request(camera, WINDOW, password=Secret(password))
        device_of(camera)
        check_template(template)
    except ReplayRefused as error:
        refusals.append(error)
    assert all("S3cr" not in str(error) and error.__cause__ is None for error in refusals)
    if made is None:
        return
    found = made.url.reveal()
    assert found.isascii()
    assert not re.search(r"[\s\x00-\x1f\x7f]", found)
    assert re.match(r"(rtsps?|https?)://", found)
    assert "Zq9" not in mask_url(found)
    assert "Zq9" not in repr(made)
    parts = urlsplit(found)
    assert (parts.hostname or "").lower() == made.device.host
    if "{password}" in template or (parts.username and user and "@" not in template):
        assert password in unquote(found)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_user_and_password_come_out_as_they_went_in(user, password):
    camera = replace(CAMERA, username=user or "x")
    try:
        parts = urlsplit(build_replay_request(camera, WINDOW, password=Secret(password)).url.reveal())
    except ReplayRefused:
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in user + password)
        return
    assert unquote(parts.username or "") == (user or "x")
    assert unquote(parts.password or "") == password
    assert parts.hostname == "192.168.0.2"
