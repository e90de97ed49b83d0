"""What is packed into RTP comes out again, and reports say what they should."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anr_watch.camera.rtp import RtpTrack

MTU = 200


def track(**changes):
    values = {"channel": 0, "payload_type": 96, "clock_rate": 90_000, "ssrc": 0x12345678}
    return RtpTrack(**(values | {"timestamp_offset": 0xFFFFFF00, "mtu_bytes": MTU} | changes))


def packets(data):
    """Take interleaved data apart: (channel, packet)."""
    found = []
    while data:
        assert data[:1] == b"$"
        length = int.from_bytes(data[2:4], "big")
        found.append((data[1], data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def unpacked_h264(payloads):
    nals, open_unit = [], b""
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == 24:
            rest = payload[1:]
            while rest:
                size = int.from_bytes(rest[:2], "big")
                nals.append(rest[2 : 2 + size])
                rest = rest[2 + size :]
        elif kind == 28:
            if payload[1] & 0x80:
                open_unit = bytes([payload[0] & 0xE0 | payload[1] & 0x1F])
            open_unit += payload[2:]
            if payload[1] & 0x40:
                nals.append(open_unit)
        else:
            nals.append(payload)
    return nals


def unpacked_h265(payloads):
    nals, open_unit = [], b""
    for payload in payloads:
        kind = payload[0] >> 1 & 0x3F
        if kind == 48:
            rest = payload[2:]
            while rest:
                size = int.from_bytes(rest[:2], "big")
                nals.append(rest[2 : 2 + size])
                rest = rest[2 + size :]
        elif kind == 49:
            if payload[2] & 0x80:
                open_unit = bytes([payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]])
            open_unit += payload[3:]
            if payload[2] & 0x40:
                nals.append(open_unit)
        else:
            nals.append(payload)
    return nals


SLICES = st.lists(st.binary(min_size=0, max_size=900), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(SLICES, st.booleans())
def test_h264_pictures_come_back(bodies, key):
    sets = [b"\x67sps", b"\x68pps"] if key else []
    nals = sets + [b"\x65" + body for body in bodies]
    sender = track()
    data = packets(sender.h264(nals, 512))
    heads = [struct.unpack_from(">BBHII", packet) for _, packet in data]
    assert unpacked_h264([packet[12:] for _, packet in data]) == nals
    assert all(len(packet) <= MTU for _, packet in data)
    assert [head[1] >> 7 for head in heads] == [0] * (len(heads) - 1) + [1], "the marker ends the picture"
    assert [head[2] for head in heads] == [(0x5678 + i) & 0xFFFF for i in range(len(heads))]
    assert {head[3] for head in heads} == {256}, "the timestamp wraps at 32 bits"
    assert sender.packets == len(data)
    assert sender.octets == sum(len(packet) - 12 for _, packet in data)


@settings(max_examples=60, deadline=None)
@given(SLICES, st.booleans())
def test_h265_pictures_come_back(bodies, key):
    sets = [b"\x40\x01vps", b"\x42\x01sps", b"\x44\x01pps"] if key else []
    nals = sets + [b"\x28\x01" + body for body in bodies]
    data = packets(track().h265(nals, 0))
    assert unpacked_h265([packet[12:] for _, packet in data]) == nals
    assert [packet[1] >> 7 for _, packet in data] == [0] * (len(data) - 1) + [1]


def test_aac_has_one_unit_header():
    ((_, packet),) = packets(track().aac(b"x" * 100, 0))
    assert packet[12:16] == struct.pack(">HH", 16, 100 << 3)
    assert packet[16:] == b"x" * 100


def test_a_report_ties_rtp_time_to_utc():
    sender = track(channel=4)
    sender.samples(b"12345", 0)
    ((channel, compound),) = packets(sender.sender_report(1_781_352_300_250_000, 0x200))
    version, kind, words, ssrc, ntp_s, fraction, timestamp, count, octets = struct.unpack_from(">BBHIIIIII", compound)
    assert (channel, version, kind, words, ssrc) == (5, 0x80, 200, 6, 0x12345678)
    assert (ntp_s - 2_208_988_800, fraction) == (1_781_352_300, 1 << 30)
    assert (timestamp, count, octets) == (0x100, 1, 5)
    assert compound[28:30] == b"\x81\xca", "SDES follows: RFC 3550 wants a CNAME in each compound packet"
    assert len(compound) % 4 == 0


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_report_reads_back_to_the_microsecond(utc_us):
    ((_, compound),) = packets(track().sender_report(utc_us, 0))
    ntp_s, fraction = struct.unpack_from(">II", compound, 8)
    assert ((ntp_s - 2_208_988_800) % (1 << 32)) * 1_000_000 + (fraction * 1_000_000 >> 32) == utc_us


def test_a_bye_alone_is_eight_bytes_and_in_company_at_the_end():
    ((_, lone),) = packets(track().lone_bye())
    assert lone == struct.pack(">BBHI", 0x81, 203, 1, 0x12345678)
    ((_, compound),) = packets(track().sender_report(0, 0, bye=True))
    assert compound.endswith(lone)
    assert len(compound) > 12


def test_a_jump_shifts_what_follows():
    sender = track(timestamp_offset=0)
    assert sender.timestamp(90_000) == 90_000
    sender.shift(3600 * 90_000)
    assert sender.timestamp(90_000) == 3601 * 90_000
    sender.shift(-3601 * 90_000)
    assert sender.timestamp(0) == (1 << 32) - 90_000


def test_lost_packets_leave_gaps_in_the_numbers():
    sender = track(lose=0.5, corrupt_seed=3)
    data = packets(b"".join(sender.samples(b"x", tick) for tick in range(200)))
    numbers = [struct.unpack_from(">H", packet, 2)[0] for _, packet in data]
    assert 60 < len(data) < 140
    assert numbers == sorted(numbers)
    assert sender.sequence == (0x5678 + 200) & 0xFFFF


@pytest.mark.parametrize("seed", [1, 2])
def test_damage_is_one_bit_and_the_same_each_time(seed):
    def damaged():
        sender = track(corrupt=0.3, corrupt_seed=seed)
        return [packet[12:] for _, packet in packets(b"".join(sender.samples(b"\0" * 50, t) for t in range(100)))]

    payloads = damaged()
    assert payloads == damaged()
    bits = [sum(byte.bit_count() for byte in payload) for payload in payloads]
    assert set(bits) == {0, 1}
    assert 10 < sum(bits) < 60
