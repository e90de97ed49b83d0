"""Prints every result of every anr-watch node; needs aiomqtt (or any MQTT client).

python subscriber.py BROKER [PORT]
"""

import asyncio
import json
import sys

import aiomqtt


async def main(host: str, port: int = 1883) -> None:
    seen = set()  # events come at least once: the same fact has the same id
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe("anr-watch/+/camera/+/event", qos=1)
        async for message in client.messages:
            event = json.loads(message.payload)
            kind, data = event["type"], event["data"]
            if (event["source"], event["id"]) in seen or ".fill." not in kind:
                continue
            seen.add((event["source"], event["id"]))
            print(kind.split(".")[-2], data["camera"], f"{data['got_s']:.0f} of {data['wanted_s']:.0f} s", flush=True)


asyncio.run(main(sys.argv[1], *(int(port) for port in sys.argv[2:3])))
