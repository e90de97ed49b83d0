"""The metrics of a running daemon, over HTTP as Prometheus asks for them."""

import asyncio
import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.broker import Broker, free_port
from tests.world import World, until

METRICS = '[fills]\nsweep_s = 0.5\n[metrics]\nlisten = "127.0.0.1:{port}"\n'


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_fill_is_told_to_prometheus(tmp_path):
    async def main():
        mqtt = '[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
        with Broker(tmp_path) as broker:
            async with World(tmp_path, settings=METRICS.format(port=0) + mqtt.format(port=broker.port)) as world:
                await of(world, broker)

    async def of(world, broker):
        world.outage()
        async with world.daemon() as daemon:
            port = re.search(r"listen=127\.0\.0\.1:(\d+)", daemon.log)[1]

            async def metrics() -> dict[tuple[str, ...], float]:
                status, text = await asyncio.to_thread(get, f"http://127.0.0.1:{port}/metrics")
                assert status == 200
                families = text_string_to_metric_families(text)
                return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

            await world.settled()
            async with asyncio.timeout(20):
                while not (said := await metrics())["anr_watch_fills_total", "filled"]:
                    await asyncio.sleep(0.1)
                while (said := await metrics())["anr_watch_gaps", "pending"] or not said["anr_watch_gaps", "filled"]:
                    await asyncio.sleep(0.2)
            assert 25 < said[("anr_watch_recovered_seconds_total",)] < 40
            assert said[("anr_watch_recovered_files_total",)] >= 1
            assert said[("anr_watch_recovered_bytes_total",)] <= sum(p.stat().st_size for p in world.files("gate"))
            assert said[("anr_watch_reaction_seconds_count",)] >= 1
            assert said["anr_watch_missing_seconds", "gate"] == said["anr_watch_pending_gaps", "gate"] == 0
            assert said[("anr_watch_running_fills",)] == 0
            assert sum(said["anr_watch_cameras", level] for level in ("online", "offline", "unknown")) == 1
            assert said[("anr_watch_ready",)] == said[("anr_watch_database_up",)] == 1
            async with asyncio.timeout(20):
                while (said := await metrics())[("anr_watch_outbox_messages",)]:
                    await asyncio.sleep(0.2)
                assert said[("anr_watch_broker_connected",)] == 1
                broker.kill()
                while (said := await metrics())[("anr_watch_broker_connected",)]:
                    await asyncio.sleep(0.1)
            assert said[("anr_watch_outbox_dropped_total",)] == 0
            assert await asyncio.to_thread(get, f"http://127.0.0.1:{port}/healthz") == (200, "ok\n")
            assert "not on loopback" not in daemon.log

    asyncio.run(main())


def test_it_answers_before_there_is_a_database(tmp_path):
    async def main():
        port = free_port()
        async with World(tmp_path, settings=METRICS.format(port=port)) as world:
            world.config.write_text(world.config.read_text().replace("heldar.db", "later.db"))
            async with world.daemon(ready=False) as daemon:
                await until(lambda: "waiting for the database" in daemon.log, lambda: daemon.log)
                health = await asyncio.to_thread(get, f"http://127.0.0.1:{port}/healthz")
                assert health == (503, "waiting for the database\n")
                status, text = await asyncio.to_thread(get, f"http://127.0.0.1:{port}/metrics")
                assert status == 200
                assert "anr_watch_ready 0.0" in text
                # A second one on the same address says so in one line.
                world.config.write_text(world.config.read_text().replace(str(world.recordings), str(tmp_path)))
                async with world.daemon(ready=False) as second:
                    assert await second.process.wait() == 1
                    await until(lambda: second.lines, "a line")
                    assert second.lines[-1].startswith(
                        f"anr-watch: metrics.listen: 127.0.0.1:{port}: cannot listen there"
                    )
                assert await daemon.stop() == 0

    asyncio.run(main())
