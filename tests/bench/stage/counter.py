"""Counts messages at a broker and the time from the first to the last; speaks just enough MQTT 3.1.1 for that.

python -m tests.bench.stage.counter PORT FILTER COUNT
"""

from __future__ import annotations

import json
import socket
import sys
import time


def packet(kind: int, body: bytes) -> bytes:
    length, head = len(body), bytearray()
    while True:
        head.append(length % 128 | (0x80 if length >= 128 else 0))
        length //= 128
        if not length:
            return bytes([kind]) + bytes(head) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packets(connection: socket.socket):
    """Yield (kind, body) for ever."""
    data = bytearray()
    while chunk := connection.recv(1 << 18):
        data += chunk
        at = 0
        while True:
            length, shift, place = 0, 0, at + 1
            while place < len(data):
                length |= (data[place] & 0x7F) << shift
                shift += 7
                place += 1
                if data[place - 1] < 0x80:
                    break
            else:
                break
            if place + length > len(data):
                break
            yield data[at], bytes(data[place : place + length])
            at = place + length
        del data[:at]


def main() -> None:
    port, name, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("counter")))
        connection.sendall(packet(0x82, b"\x00\x01" + text(name) + b"\x00"))
        seen: set[bytes] = set()
        messages, first_s, last_s = 0, 0.0, 0.0
        for kind, body in packets(connection):
            if kind >> 4 == 9:  # SUBACK
                say({"subscribed": True})
            elif kind >> 4 == 3 and b'"id": "bench-' in body:
                last_s = time.monotonic()
                first_s = first_s or last_s
                messages += 1
                seen.add(body[body.rindex(b'"id": ') :])
                if messages == wanted:
                    break
    say({"messages": messages, "distinct": len(seen), "first_s": first_s, "last_s": last_s})


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
