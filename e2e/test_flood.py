"""Strangers in numbers: nothing that they send is made more of on its way, and nobody is locked out beside them."""

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import resource
import socket
import time

import pytest
from livekit.protocol import ingress as pb

from rig import Feeder, Refused, RtmpClient, Viewer, flv, numbered_clip
from rig.flood import garbage
from rig.psrpc import Redis
from rig.whip import FRAGMENT, SDP, ask

WHIP = pb.IngressInput.WHIP_INPUT
TIMES = range(3)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return flv.read(numbered_clip(tmp_path_factory.mktemp("film") / "film.flv", 45))


@contextlib.contextmanager
def crowd(port, count):
    """So many connections that say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    connections = []
    try:
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                connections.append(socket.create_connection(("127.0.0.1", port), 5))
        yield connections
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def taken_by_redis(stack):
    """Bytes that clients have sent to Redis so far."""
    redis = Redis(stack.port["redis"], patience=5)
    try:
        stats = redis.ask("INFO", "stats").decode()
        return int(next(line.split(":")[1] for line in stats.splitlines() if line.startswith("total_net_input_bytes:")))
    finally:
        redis.close()


# nothing amplifies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60_000, 12_000], ids=["60 kB", "12 kB"])
@pytest.mark.parametrize("keys", ["one key", "many keys"])
async def test_patch_of_strangers_is_not_amplified(stack, keys, size):
    """60 requests, too large or just as large as may be, to a session that nobody has: Redis gets next to nothing of it."""
    for turn in TIMES:
        before, sent, answers = taken_by_redis(stack), 0, []
        for i in range(60):
            key = f"no{size}{turn}{i if keys == 'many keys' else 0:05}"
            body = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdabcdabcdabcdabcdabcd\r\na=x:" + "y" * size
            url = f"http://127.0.0.1:{stack.port['whip']}/w/{key}/WH_{turn:06}{i:06}"
            try:
                answers.append(await ask("PATCH", url, body, {**FRAGMENT, "If-Match": "*"}))
                sent += len(body)
            except ConnectionError:
                # A hundred wrong keys within a second are what an address has.
                await asyncio.sleep(0.2)
        taken = taken_by_redis(stack) - before
        print(f"{keys}: {taken / sent:.4f} bytes into Redis for each of a stranger's ({taken} for {sent})")
        assert taken / sent <= 0.2
        assert {answer.status for answer in answers} <= {403, 404, 413}, answers[0]


async def charged_no_more():
    """What tests before this one have guessed is charged to our address for a second."""
    await asyncio.sleep(1.2)


async def test_delete_of_strangers_asks_no_machine(stack):
    """A wrong key does not reach the topic of a session."""
    await charged_no_more()
    before = taken_by_redis(stack)
    for i in range(30):
        answer = await ask("DELETE", f"http://127.0.0.1:{stack.port['whip']}/w/nosuchkey1234/WH_{i:012}")
        assert answer.status in (403, 404)
    taken = taken_by_redis(stack) - before
    print(f"{taken} bytes into Redis for 30 requests")
    assert taken < 30 * 400


async def test_guessed_keys_are_looked_up_at_a_bounded_pace(stack):
    """One key that does not exist, tried again and again, is looked up once in some seconds."""
    await charged_no_more()
    before = taken_by_redis(stack)
    url = f"http://127.0.0.1:{stack.port['whip']}/w"
    for _ in range(40):
        answer = await ask("POST", url, "x", {**SDP, "Authorization": "Bearer nosuchkey7777"})
        assert answer.status == 404 and "no ingress has this stream key" in answer.body
    taken = taken_by_redis(stack) - before
    print(f"{taken} bytes into Redis for 40 guesses of one key")
    assert taken < 40 * 400


# nobody is locked out -------------------------------------------------------------------------------------------------------


async def test_idle_rtmp_connections_give_way(stack, film):
    """1,200 of one address that show no key, and then a good encoder from there."""
    for turn in TIMES:
        info = await stack.create(f"crowd-{turn}")
        with crowd(stack.port["rtmp"], 1200) as connections:
            assert len(connections) == 1200
            async with Feeder(stack, info.stream_key) as feeder:
                playing = asyncio.create_task(feeder.play(film))
                await stack.wait_state(info.ingress_id, "PUBLISHING")
                # It keeps its place while more of them come.
                with crowd(stack.port["rtmp"], 300):
                    await asyncio.sleep(1)
                    assert not playing.done()
                    await stack.wait_state(info.ingress_id, "PUBLISHING", 1)
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        await stack.wait_state(info.ingress_id, "INACTIVE")


async def test_idle_whip_connections_give_way(stack):
    """The same at WHIP's HTTP port."""
    for _ in TIMES:
        with crowd(stack.port["whip"], 1200):
            answer = await ask("POST", f"http://127.0.0.1:{stack.port['whip']}/w", "x", {**SDP, "Authorization": "Bearer nosuchkey1234"})
            assert answer.status == 404, answer


@pytest.mark.parametrize("port,path,words", [("health", "/", "Healthy"), ("health", "/availability", "Available"), ("prometheus", "/metrics", "ingress_")])
async def test_pages_answer_beside_silent_connections(stack, port, path, words):
    """300 that are silent keep no probe from its answer."""
    for _ in TIMES:
        with crowd(stack.port[port], 300):
            began = time.monotonic()
            status, body = await asyncio.to_thread(stack.get, port, path, 5)
            assert (status, words in body) == (200, True), (status, body[:200])
            assert time.monotonic() - began < 3


async def test_garbage_connections_beside_a_good_stream(stack, film):
    """For ten seconds as many as this machine can open beside the test, of every kind. (`./x bench --flood` opens 1,000 a second for
    30 s and holds the gap to 200 ms.)"""
    info = await stack.create("flooded")
    async with Viewer(stack, "flooded") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(film))
        await viewer.wait_numbers(30)
        since = time.monotonic()
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            opened = await asyncio.get_running_loop().run_in_executor(process, garbage, [stack.port["rtmp"]], 300, 10)
        gap = viewer.longest_gap(since)
        print(f"{opened} connections in 10 s, longest gap {1000 * gap:.0f} ms")
        assert opened > 1000
        assert gap < 1.0, "the viewer calls it frozen"
        assert (await stack.wait_state(info.ingress_id, "PUBLISHING", 1)).error == ""
        assert not playing.done()
        playing.cancel()


# keys stay out of the log ---------------------------------------------------------------------------------------------------


def push(port, app, name):
    """The words that an encoder with this application and name is refused with; none if it is not."""
    with RtmpClient(port) as client:
        client.connect(app=app)
        try:
            client.publish(name)
        except Refused as refusal:
            return refusal.description
        except ConnectionError:
            return "closed"
        return ""


async def test_a_key_in_any_part_of_a_path_is_not_logged(stack):
    """Wherever people paste it: behind another segment, before one, alone, as application."""
    base = f"http://127.0.0.1:{stack.port['whip']}"
    whip, rtmp = await stack.create("pasted-whip", WHIP), await stack.create("pasted-rtmp")
    for turn in TIMES:
        key = whip.stream_key
        for path, headers in [(f"/w/{key}/x{turn}", {}), (f"/{key}", {"Authorization": f"Bearer nosuch{turn}"}), (f"/{key}/x/y", {}),
                              (f"/{key}", {"Authorization": f"Bearer {key}"}), (f"/live/{key}/{key}", {}), (f"/w/%{ord(key[0]):02x}{key[1:]}/x", {})]:
            await ask("POST", base + path, "v=0\r\n", {**SDP, **headers})
            await ask("DELETE", f"{base}{path}/WH_{turn:012}", headers=headers)
            await ask("OPTIONS", base + path, headers=headers)
        key = rtmp.stream_key
        for app, name in [(f"live/{key}", f"x{turn}"), (key, f"x{turn}"), (f"{key}/x", ""), (f"x?key={key}", "y"), (f"x/{key}?y", f"z{turn}")]:
            await asyncio.to_thread(push, stack.port["rtmp"], app, name)
    log = stack.ingress.text()
    for key in (whip.stream_key, rtmp.stream_key):
        lines = [line for line in log.splitlines() if key in line or key[1:] in line]
        assert not lines, lines[0]
