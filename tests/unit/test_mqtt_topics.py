"""Topics: every camera id gets one level of its own that MQTT takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.mqtt.topics import Topics, camera_level, can_publish

TOPICS = Topics("anr-watch", "nvr1")


@pytest.mark.parametrize("camera_id", ["cam_1", "0f9d2c1e-77aa", "front.door", "Tür", "a" * 100])
def test_an_id_that_can_be_a_level_is_the_level(camera_id):
    assert camera_level(camera_id) == camera_id


@pytest.mark.parametrize(
    "camera_id", ["a/b", "a+b", "#", "a b", "a\x00b", "a\nb", "", "$SYS", "x" * 101, "a~b", "\ud800", "a\u2028b"]
)
def test_an_id_that_cannot_becomes_a_slug(camera_id):
    level = camera_level(camera_id)
    assert can_publish(level)
    assert "/" not in level
    assert level.isprintable()
    assert " " not in level
    assert len(level) <= 100
    assert camera_level(camera_id) == level


def test_a_slug_is_the_same_for_ever():
    # Consumers have it in their configuration: changing the rule would rename their topics.
    assert camera_level("front/door") == "front-door~af390eaacc57e64d"


@given(st.lists(st.text(alphabet="a/+# ~-\x00ü$", max_size=6), unique=True, max_size=30))
def test_no_two_ids_share_a_level(ids):
    levels = [camera_level(camera_id) for camera_id in ids]
    assert len(set(levels)) == len(ids)
    # Nor does the id that looks like another one's slug.
    assert not set(levels) & {camera_level(level) for level in levels if "~" in level}


@given(st.text())
def test_every_topic_of_a_camera_can_be_published(camera_id):
    assert can_publish(TOPICS.event(camera_id))
    assert TOPICS.event(camera_id).count("/") == 4


def test_the_topics():
    assert TOPICS.status == "anr-watch/nvr1/status"
    assert TOPICS.info == "anr-watch/nvr1/info"
    assert TOPICS.state("cam") == "anr-watch/nvr1/camera/cam/state"
    assert TOPICS.event("cam") == "anr-watch/nvr1/camera/cam/event"
    assert TOPICS.commands == "anr-watch/nvr1/cmd/+"
    assert TOPICS.reply("fill") == "anr-watch/nvr1/reply/fill"


def test_the_verb_of_a_command_topic():
    assert TOPICS.verb("anr-watch/nvr1/cmd/fill") == "fill"
    assert TOPICS.verb("anr-watch/nvr1/cmd/a/b") is None
    assert TOPICS.verb("anr-watch/nvr2/cmd/fill") is None


def test_what_cannot_be_published():
    assert not any(can_publish(topic) for topic in ("", "a/+", "#", "a\x00", "\ud800", "x" * 65_536))
    assert can_publish("x" * 65_535)
