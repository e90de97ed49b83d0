"""What MQTT 5 adds to packets: properties and reason codes, in paho's form. Sends nothing."""

from __future__ import annotations

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

MAX_PACKET_BYTES = 1024 * 1024  # what we let the broker send us
RECEIVE_MAXIMUM = 100  # how many unacknowledged messages the broker may send us


def reason_name(code: int) -> str:
    """Return the standard's name of a PUBACK's reason code."""
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code))
    except (KeyError, ValueError):  # a code the standard does not know, or not for this packet
        return f"reason 0x{code:02x}"


def of_publish(*, content_type: str, correlation: bytes | None = None) -> Properties:
    """Return MQTT 5 properties for a message of ours; its payload is always UTF-8 text."""
    properties = _new(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.ContentType = content_type
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


def _new(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this one unannotated


def of_connect(session_expiry_s: int) -> Properties:
    """Return the MQTT 5 properties of CONNECT; without the expiry a session ends with its connection."""
    properties = _new(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = session_expiry_s
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties
