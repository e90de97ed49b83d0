"""Checks the MQTT broker as the daemon will use it: connect, subscribe, and a message of our own that comes back.

It connects under a client id of its own and without a session, so a running daemon is not disturbed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from anr_watch.commands.findings import Finding, fail, ok, warn
from anr_watch.config import MqttSettings
from anr_watch.model import Message
from anr_watch.mqtt.connecting import Patience, connect
from anr_watch.mqtt.link import FAILURE, Link, LinkLost, Loss
from anr_watch.mqtt.packets import reason_name
from anr_watch.mqtt.topics import Topics
from anr_watch.sources.presence_rules import Rules

_ABOUT = "broker"
_PATIENCE = Patience(connect_s=8.0, answer_s=5.0)
_ADVICE = {
    Loss.UNREACHABLE: "check [mqtt] host, port and tls, and that the broker runs; fills work without it",
    Loss.REFUSED: "check [mqtt] username and password, and the broker's rights",
    Loss.CLOSED: "check [mqtt] port and tls: a TLS port closes plain connections, and the other way round",
    Loss.SILENT: "check [mqtt] port and the firewall: something takes the connection and does not answer",
    Loss.TAKEN_OVER: "another check runs at the same time",
}


async def check_broker(settings: MqttSettings) -> list[Finding]:
    """Check the broker. Fills by other events go on without it, but who set one up counts on it, so trouble fails."""
    if not settings.host:
        return [ok(_ABOUT, "not configured: no MQTT")]
    where = f"{settings.host}:{settings.port}"
    topics = Topics(settings.base, settings.node)
    probe = Message("", f"{topics.root}/check", b"anr-watch check", retain=False)
    client_id = f"{settings.client_id or f'anr-watch-{settings.node}'}-check-{os.getpid()}"
    fresh = replace(settings, session_expiry_s=0)
    try:
        async with connect(fresh, client_id=client_id, will=probe, patience=_PATIENCE) as link:
            found = await _exchange(link, topics, settings, probe)
    except LinkLost as lost:
        return [fail(_ABOUT, f"{where}: {lost}", _ADVICE[lost.loss], loss=lost.loss.value)]
    bad = [finding for finding in found if finding is not None]
    if bad:
        return bad
    rules = len(settings.presence)
    presence = f"{rules} presence rule{'s' if rules != 1 else ''}"
    return [ok(_ABOUT, f"{where}: connected as {topics.root}, {presence} subscribed, a message of ours came back")]


async def _exchange(link: Link, topics: Topics, settings: MqttSettings, probe: Message) -> Sequence[Finding | None]:
    found: list[Finding] = []
    wanted = [probe.topic, topics.commands, *Rules(settings.presence).filters]
    refused = await link.subscribe(wanted, timeout_s=_PATIENCE.answer_s)
    for name in refused:
        advice = "allow it in the broker's access list"
        if name == probe.topic:
            found.append(warn(_ABOUT, f"the broker does not let us subscribe to {name}", advice))
        else:
            found.append(fail(_ABOUT, f"the broker does not let us subscribe to {name}", advice))
    code = await link.publish(probe, timeout_s=_PATIENCE.answer_s)
    if code >= FAILURE:
        text = f"the broker does not take messages below {topics.root}/ ({reason_name(code)})"
        found.append(fail(_ABOUT, text, f"allow {topics.root}/# in the broker's access list"))
    elif probe.topic not in refused and not await _came_back(link, probe):
        text = f"the broker took a message for {probe.topic} and did not deliver it"
        found.append(fail(_ABOUT, text, f"allow {topics.root}/# in the broker's access list, to write and to read"))
    return found


async def _came_back(link: Link, probe: Message) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE.answer_s):
            while True:
                incoming = await link.receive()
                link.acknowledge(incoming)
                if incoming.topic == probe.topic:
                    return True
    except TimeoutError:
        return False
