"""Publishes messages at QoS 1 with nothing around the client library: what a broker takes on this machine.

python -m tests.bench.stage.publisher PORT TOPIC COUNT BYTES WINDOW
"""

from __future__ import annotations

import sys

import paho.mqtt.client as mqtt


def main() -> None:
    port, topic, count, size, window = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(window)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(count):
        end = f', "id": "bench-{number}"}}'
        last = client.publish(topic, "x" * (size - len(end)) + end, qos=1)
    last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
