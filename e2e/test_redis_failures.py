"""Redis hangs, dies, comes back, has lost everything or is another one: streams go on, and what is stored of them comes true."""

import asyncio
import signal
import subprocess
import time

import pytest

from conftest import run
from rig import Refused, Reports, RtmpClient, Stack, free_ports, wait_for
from rig.stored import FINAL, answers, held, publishing, push, put_right


async def test_redis_hangs_before_a_stream(own_stack):
    """Who connects then is refused in words, soon; the next after it is served."""
    own_stack.start()
    info = await own_stack.create("before")
    own_stack.redis.signal(signal.SIGSTOP)
    try:
        for _ in range(2):
            began = time.monotonic()
            with RtmpClient(own_stack.port["rtmp"]) as client, pytest.raises(Refused) as refusal:
                await asyncio.to_thread(client.connect)
                await asyncio.to_thread(client.publish, info.stream_key)
            assert "does not answer" in refusal.value.description, refusal.value.description
            assert time.monotonic() - began < 10
    finally:
        own_stack.redis.signal(signal.SIGCONT)
    own_stack.wait_available()
    await answers(own_stack, info)
    push(own_stack, info)
    await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)


async def test_redis_is_away_at_the_end_of_a_stream(own_stack):
    """The end is stored once Redis is back, though the process has nothing else to do any more."""
    own_stack.start()
    info, encoder, before = await publishing(own_stack, "end")
    own_stack.redis.end()
    encoder.hang_up()
    own_stack.ingress.wait_log("session state", 10)
    await asyncio.to_thread(own_stack.ingress.wait_log, '"status":"Inactive"', 10)
    own_stack.start_redis()
    await answers(own_stack, info)
    state = await own_stack.wait_state(info.ingress_id, "INACTIVE", 30)
    assert (state.started_at, state.resource_id, state.error) == (before.started_at, before.resource_id, "")


async def test_redis_hangs_at_the_end_of_a_stream(own_stack):
    own_stack.start()
    info, encoder, _ = await publishing(own_stack, "hung")
    own_stack.redis.signal(signal.SIGSTOP)
    try:
        encoder.hang_up()
        await asyncio.sleep(4)  # longer than a call waits
    finally:
        own_stack.redis.signal(signal.SIGCONT)
    await own_stack.wait_state(info.ingress_id, "INACTIVE", 30)


async def test_redis_hangs_during_a_stream(own_stack):
    """So long that records of instances would expire, if time alone counted."""
    own_stack.start()
    own_stack.start_another()
    reports = Reports(own_stack)
    info, encoder, _ = await publishing(own_stack, "during")
    own_stack.redis.signal(signal.SIGSTOP)
    await asyncio.sleep(25)
    own_stack.redis.signal(signal.SIGCONT)
    assert encoder.running()
    own_stack.wait_available()
    await held(own_stack, info, "PUBLISHING", 25)
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING"]
    reports.close()


async def test_the_process_ends_while_redis_is_away(own_stack):
    """Whatever it could not store, the next start does."""
    own_stack.start()
    info, encoder, before = await publishing(own_stack, "both")
    own_stack.redis.end()
    encoder.hang_up()
    own_stack.ingress.signal(signal.SIGINT)
    await asyncio.to_thread(own_stack.ingress.wait_exit, 15)
    own_stack.start_redis()
    own_stack.start_ingress()
    await answers(own_stack, info)
    put_right(await own_stack.wait_state(info.ingress_id, "ERROR", 30), before)


async def test_a_redis_that_has_lost_all_ends_no_stream(own_stack):
    """As after a failover to an empty replica. Nobody can connect any more, and who watches goes on watching."""
    own_stack.start()
    info, encoder, _ = await publishing(own_stack, "forgotten")
    subprocess.run(["redis-cli", "-p", str(own_stack.port["redis"]), "flushall"], check=True, capture_output=True)
    await asyncio.sleep(12)  # longer than it takes to notice
    assert encoder.running()
    own_stack.ingress.wait_log("looked at again")


# another master -------------------------------------------------------------------------------------------------------------


class Sentinel(Stack):
    """A stack whose Redis has a replica, and a sentinel that puts it in the master's place."""

    NAME = "main"

    def start_redis(self):
        super().start_redis()
        self.sentinel_port, self.replica_port = free_ports(2)
        (self.dir / "replica").mkdir()
        master = ["--replicaof", "127.0.0.1", self.port["redis"]]
        command = ["redis-server", "--port", self.replica_port, "--bind", "127.0.0.1", "--save", "", "--dir", self.dir / "replica", *master]
        self.program("replica", command).wait_port(self.replica_port)
        wait_for("the replica has the master", 20, lambda: "master_link_status:up" in self.cli(self.replica_port, "info", "replication"))
        config = self.dir / "sentinel.conf"
        config.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\nsentinel monitor {self.NAME} 127.0.0.1 {self.port['redis']} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} 1000\nsentinel failover-timeout {self.NAME} 10000\n"
        )
        self.program("sentinel", ["redis-server", config, "--sentinel"]).wait_port(self.sentinel_port)
        wait_for("the sentinel knows the replica", 30, lambda: str(self.replica_port) in self.cli(self.sentinel_port, "sentinel", "replicas", self.NAME))

    @staticmethod
    def cli(port, *words):
        return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, timeout=10).stdout.decode(errors="replace")

    def fail_over(self):
        """Kills the master, and waits until the replica has its place."""
        self.redis.kill()
        wait_for("another master", 30, lambda: "role:master" in self.cli(self.replica_port, "info", "replication"))
        self.port["redis"] = self.replica_port

    def by_sentinel(self, config):
        address = f'address: "127.0.0.1:{self.port["redis"]}"'
        assert address in config
        return config.replace(address, f'sentinel_master_name: {self.NAME}, sentinel_addresses: ["127.0.0.1:{self.sentinel_port}"]')

    def livekit_config(self):
        return self.by_sentinel(super().livekit_config())

    def ingress_config(self, ports=None):
        return self.by_sentinel(super().ingress_config(ports))


@pytest.fixture
def sentinel_stack():
    yield from run(Sentinel())


@pytest.mark.seconds(150)
async def test_a_sentinel_puts_another_master_in_place(sentinel_stack):
    """Two instances with a session each live through it: neither takes the other for dead, as both write their records to the new master.
    One that is killed after it is put right, as ever. (A minute and a half: records must have had the time to expire, twice.)"""
    stack = sentinel_stack.start()
    another, ports = stack.start_another()
    stays, first, before = await publishing(stack, "stays")
    dies, second, dying = await publishing(stack, "dies", ports)
    records = lambda: stack.cli(stack.port["redis"], "hkeys", "{ingress}_instances").split()
    names = sorted(records())
    assert len(names) == 2
    await asyncio.to_thread(stack.fail_over)
    await answers(stack, stays)
    reports = Reports(stack)
    for _ in range(2):
        await held(stack, stays, "PUBLISHING", 12)
        await held(stack, dies, "PUBLISHING", 1)
        assert sorted(records()) == names
    assert first.running() and second.running() and not [r for r in reports.all if r.status in FINAL]
    another.signal(signal.SIGKILL)
    began = time.monotonic()
    another.wait_exit(5)
    put_right(await stack.wait_state(dies.ingress_id, "ERROR", 60 - (time.monotonic() - began)), dying)
    after = await stack.wait_state(stays.ingress_id, "PUBLISHING", 1)
    assert after.resource_id == before.resource_id
    reports.close()
    # It hears what is asked by way of the new master.
    await stack.delete(stays.ingress_id)
    await asyncio.to_thread(first.wait_exit, 15)
    assert await stack.info(stays.ingress_id) is None
