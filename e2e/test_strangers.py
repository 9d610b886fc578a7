"""What strangers send at the RTMP port, all of it beside a good stream: each gets words or a closed connection in time, each is
counted, and the stream does not notice."""

import asyncio
import multiprocessing
import os
import random
import socket
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from rig import Feeder, Refused, RtmpClient, Stack, Viewer, flv, numbered_clip, wait_for
from rig.rtmp import amf
from rig.viewer import FROZEN

# Ten seconds are promised. A stranger who has been greeted has ten from there; the rest is for machines that stumble.
ANSWERED = 15


class Stranger(RtmpClient):
    """A connection that waits for its end."""

    def until_closed(self):
        """Reads until the server closes; fails if it does not."""
        self.socket.settimeout(ANSWERED + 5)
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass

    def dribble(self, data):
        """One byte a second, until nobody takes any more."""
        self.socket.settimeout(1)
        for byte in data:
            self.socket.sendall(bytes([byte]))
            try:
                if not self.socket.recv(65536):
                    return
            except TimeoutError:
                continue

    def pour(self, pieces):
        for piece in pieces:
            self.socket.sendall(piece)


def greeted(then):
    """A stranger that greets properly first."""

    def act(stranger):
        stranger.handshake()
        then(stranger)

    return act


def connected(then):
    """A stranger that greets and connects properly first."""

    def act(stranger):
        stranger.connect()
        then(stranger)

    return act


def media_before_publish(stranger):
    for _ in range(1000):
        stranger.send(9, b"\x17\1\0\0\0" + bytes(1000), stream=1)


def sixteen_mib_forty_times(stranger):
    """Each of 40 chunk streams says that it has a command of 16 MiB, and sends some of it."""
    for _ in range(1000):
        for channel in range(3, 43):
            stranger.socket.sendall(bytes([channel]) + bytes(3) + b"\xff\xff\xff\x14" + bytes(4) + bytes(128))


def chunk_streams_without_end(stranger):
    for channel in range(64, 60_000):
        stranger.socket.sendall(b"\1" + (channel - 64).to_bytes(2, "little") + bytes(3) + b"\0\0\0\x14" + bytes(4))


def deep_amf(stranger):
    stranger.send(20, amf("connect") + amf(1) + b"\x03\0\1a" * 20_000)


def long_string(stranger):
    stranger.send(20, amf("connect") + amf(1) + b"\x0c\x7f\xff\xff\xff" + b"x" * 50)


def chunk_size(size):
    return greeted(lambda s: (s.set_chunk_size(size), setattr(s, "chunk_out", 65536), s.send(20, bytes(60_000)), s.send(20, bytes(64_000))))


def asks_without_reading(stranger):
    for i in range(200_000):
        stranger.command("createStream", i, None)


# What each sends, and as what it is counted.
STRANGERS = {
    "noise": (lambda s: s.socket.sendall(b"\x77" + os.urandom(5000)), "not_rtmp"),
    "HTTP": (lambda s: s.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not_rtmp"),
    "TLS": (lambda s: s.socket.sendall(b"\x16\3\1\2\0\1" + os.urandom(600)), "not_rtmp"),
    "silence": (lambda s: None, "handshake_timeout"),
    "half a handshake": (lambda s: s.socket.sendall(b"\3" + bytes(700)), "handshake_timeout"),
    "one byte a second": (lambda s: s.dribble(b"\3" + bytes(60)), "handshake_timeout"),
    "silence behind the handshake": (greeted(lambda s: None), "publish_timeout"),
    "one byte a second behind it": (greeted(lambda s: s.dribble(bytes(60))), "publish_timeout"),
    "noise behind it": (greeted(lambda s: s.pour([b"\xff" * 4000, os.urandom(60_000)])), None),
    "connect and no more": (connected(lambda s: None), "publish_timeout"),
    "chunk size 0": (greeted(lambda s: s.set_chunk_size(0)), "chunk_size"),
    "chunk size 2^31-1": (chunk_size(2**31 - 1), None),
    "16 MiB on 40 chunk streams": (greeted(sixteen_mib_forty_times), "message_length"),
    "chunk streams without end": (greeted(chunk_streams_without_end), "chunk_streams"),
    "AMF 20,000 deep": (greeted(deep_amf), "message_length"),
    "AMF 4,000 deep": (greeted(lambda s: s.send(20, amf("connect") + amf(1) + b"\x03\0\1a" * 4_000)), "amf"),
    "a string longer than its message": (greeted(long_string), "amf"),
    "media before publish": (connected(media_before_publish), "media_before_publish"),
    "questions without an ear": (connected(asks_without_reading), None),
    "a wish to watch": (connected(lambda s: s.command("play", 4, None, "something", stream=1)), "play"),
    "publish without connect": (greeted(lambda s: s.command("publish", 4, None, "something", stream=1)), "out_of_place"),
}


def visit(port, act):
    """Seconds until the server had enough of this stranger."""
    began = time.monotonic()
    with Stranger(port) as stranger:
        try:
            act(stranger)
            stranger.until_closed()
        except (ConnectionError, TimeoutError):
            pass
    return time.monotonic() - began


def visit_all(port):
    """All of them at once: stranger → seconds. Run in a process of its own, so that it takes nothing from the viewer here."""
    with ThreadPoolExecutor(len(STRANGERS)) as threads:
        visits = {name: threads.submit(visit, port, act) for name, (act, _) in STRANGERS.items()}
        return {name: v.result() for name, v in visits.items()}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return flv.read(numbered_clip(tmp_path_factory.mktemp("film") / "film.flv", 45))


async def test_strangers_beside_a_good_stream(stack, film):
    """All at once; then each is told by its kind in the metrics, and the log has lines, but not without end."""
    info = await stack.create("good")
    async with Viewer(stack, "good") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(film))
        await viewer.wait_numbers(20)
        began, seen = time.monotonic(), len(viewer.frames)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            took = await asyncio.get_running_loop().run_in_executor(process, visit_all, stack.port["rtmp"])
        print({name: round(seconds, 1) for name, seconds in took.items()})
        assert [name for name, seconds in took.items() if seconds > ANSWERED] == []
        numbers, gap = viewer.numbers(seen), viewer.longest_gap(began)
        assert not playing.done(), "the film is too short to tell"
        missing = set(range(numbers[0], numbers[-1])) - set(numbers)
        print(f"longest gap {1000 * gap:.0f} ms, {len(missing)} of {numbers[-1] - numbers[0]} pictures missing")
        assert gap < FROZEN
        # The SDK drops some itself where this machine is busy.
        assert len(missing) < 0.2 * (numbers[-1] - numbers[0]), sorted(missing)
        assert numbers == sorted(numbers)
        assert (await stack.wait_state(info.ingress_id, "PUBLISHING")).error == ""
        playing.cancel()
    for label in {label for _, label in STRANGERS.values() if label}:
        wanted = sum(1 for _, other in STRANGERS.values() if other == label)
        assert stack.metric("ingress_rtmp_ended_connections_total", how=label) >= wanted, label
    assert stack.ingress.text().count("RTMP connection ended before its stream began") in range(5, 45)


@pytest.mark.parametrize("body", [b"\x19\1\0\0\0\0\0\0", b"\x91vvc1\0\0\0\0\0\0", b"\x91abcd\0\0\0\0", b"\x1e\1\0\0\0"], ids=["MPEG-4", "VVC", "unknown-fourcc", "unknown-number"])
async def test_an_unsupported_codec(stack, body):
    """The encoder is told, and whoever looks at the ingress, within ten seconds."""
    room = f"codec-{body[:5].hex()}"
    info = await stack.create(room)
    async with Feeder(stack, info.stream_key) as feeder:

        async def feed():
            for i in range(1000):
                await feeder.send(flv.VIDEO, body, i * 40)
                await asyncio.sleep(0.04)

        feeding = asyncio.create_task(feed())
        began = time.monotonic()
        status = await asyncio.to_thread(feeder.client.answer, "onStatus")
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        assert time.monotonic() - began < ANSWERED
        assert status[3]["level"] == "error"
        assert "video" in status[3]["description"], status
    state = await stack.wait_state(info.ingress_id, "ERROR")
    assert state.error in status[3]["description"] or "video" in state.error, (state.error, status)


async def test_audio_plays_beside_undecodable_video(stack, film):
    """The log says what is left out."""
    info = await stack.create("half")
    sound = [t if t.kind == flv.AUDIO else flv.Tag(flv.VIDEO, t.time, b"\x91vvc1" + t.body[5:]) for t in film if t.kind != flv.DATA]
    async with Viewer(stack, "half") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(sound))
        await viewer.wait_tone(330)
        assert not (await stack.wait_state(info.ingress_id, "PUBLISHING")).video.mime_type
        stack.ingress.wait_log("H.266 video is left out")
        playing.cancel()


HARM = {
    "bits": lambda body, dice: bytes(b ^ (1 << dice.randrange(8)) if dice.random() < 0.002 else b for b in body),
    "cut": lambda body, dice: body[: dice.randrange(6, len(body))] if len(body) > 6 and dice.random() < 0.3 else body,
    "lost": lambda body, dice: None if dice.random() < 0.2 else body,
}


@pytest.mark.parametrize("harm", HARM)
async def test_a_damaged_stream(stack, film, harm):
    """Flipped bits, cut messages, lost messages: the stream goes on, and behind the damage pictures and sound are whole again."""
    dice, room = random.Random(4), f"damaged-{harm}"
    tags = []
    for tag in film:
        hurt = tag.time > 1500 and tag.time < 3500 and not flv.is_config(tag) and tag.kind != flv.DATA
        body = HARM[harm](tag.body[2:], dice) if hurt else tag.body[2:]
        if body is not None:
            tags.append(flv.Tag(tag.kind, tag.time, tag.body[:2] + body))
    info = await stack.create(room)
    restarts = stack.metric("ingress_transcoder_restarts_total")
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags))
        # 4000 ms: a key frame.
        await viewer.wait("whole pictures", lambda v: sum(n in range(125, 180) for n in v.numbers()) > 20)
        await viewer.wait_tone(330)
        assert (await stack.wait_state(info.ingress_id, "PUBLISHING")).error == ""
        assert stack.metric("ingress_transcoder_restarts_total") == restarts, "the decoder survives it"
        assert not playing.done() or not playing.exception()
        playing.cancel()


async def test_noise_in_place_of_media(stack):
    """Published with a good key, and then nothing that is one: the encoder is told within ten seconds or loses its connection."""
    info = await stack.create("noise")
    dice = random.Random(7)
    with Stranger(stack.port["rtmp"]) as stranger:
        stranger.connect()
        stream = stranger.publish(info.stream_key)
        began = time.monotonic()
        try:
            for kind in (9, 8, 9, 9, 18, 22) * 200:
                stranger.send(kind, dice.randbytes(dice.randrange(1, 500)), stream=stream)
        except ConnectionError:
            pass
        await asyncio.to_thread(stranger.until_closed)
        assert time.monotonic() - began < ANSWERED
    assert (await stack.wait_state(info.ingress_id, "ERROR")).error


# Many idle connections ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded_stack():
    """A stack that lets one address open as many connections as it likes, up to a bound on all."""
    from conftest import run

    # As systemd starts programs: few open files allowed, but more to be had for the asking.
    wrap = ["prlimit", "--nofile=128:4096"]
    for s in run(Stack("rtmp_max_connections: 310\nrtmp_max_connections_per_address: 1000", wrap=wrap)):
        yield s.start()


def gone(connection):
    """Whether the other side has closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def resident(pid):
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_many_idle_connections(crowded_stack, film):
    """300 that were greeted and say nothing more cost a few MiB and a good stream nothing; beyond the bound the oldest of them give way,
    are counted, and the stream keeps its place. (`./x bench` has the figure for 2,000.)"""
    stack = crowded_stack
    info = await stack.create("crowd")
    async with Viewer(stack, "crowd") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(film))
        await viewer.wait_numbers(20)
        before, since = resident(stack.ingress.pid), time.monotonic()
        idle = [Stranger(stack.port["rtmp"]) for _ in range(300)]
        try:
            for stranger in idle:
                await asyncio.to_thread(stranger.handshake)
            cost = resident(stack.ingress.pid) - before
            print(f"{len(idle)} idle connections: {cost / 2**20:.1f} MiB")
            assert cost < 300 * 40 * 2**20 / 2000 + 8 * 2**20  # and some for what the stream itself takes meanwhile
            more = [socket.create_connection(("127.0.0.1", stack.port["rtmp"]), 5) for _ in range(20)]
            for oldest in idle[:10]:
                await asyncio.to_thread(oldest.until_closed)
            assert stack.metric("ingress_rtmp_ended_connections_total", how="gave_way") in range(10, 13)
            assert not gone(idle[-1].socket) and not gone(more[-1]), "the youngest stay"
            for m in more:
                m.close()
            await viewer.wait_numbers(20, over=viewer.numbers()[-1])
            assert viewer.longest_gap(since) < FROZEN
            await stack.wait_state(info.ingress_id, "PUBLISHING", 1)
        finally:
            for stranger in idle:
                stranger.close()
            playing.cancel()


async def test_too_many_connections_from_one_address(stack):
    """By default a hundred that do not publish; for the next, the oldest is closed on and counted."""
    before = stack.metric("ingress_rtmp_ended_connections_total", how="gave_way")
    crowd = [socket.create_connection(("127.0.0.1", stack.port["rtmp"]), 5) for _ in range(110)]
    try:
        for oldest in crowd[:10]:
            oldest.settimeout(5)
            assert await asyncio.to_thread(oldest.recv, 1) == b""
        wait_for("ten counted", 5, lambda: stack.metric("ingress_rtmp_ended_connections_total", how="gave_way") >= before + 10)
        assert not any(gone(young) for young in crowd[20:])
    finally:
        for connection in crowd:
            connection.close()


def try_keys(port, count):
    """The distinct words that so many wrong keys are answered with."""
    words = set()
    for i in range(count):
        with RtmpClient(port) as stranger:
            try:
                stranger.connect()
                stranger.publish(f"nosuchkey{i:05}")
            except Refused as refusal:
                words.add(refusal.description)
            except ConnectionError:
                words.add("closed")
    return words


async def test_guessed_keys_do_not_fill_the_log(stack):
    """Every guess is counted; the log shows some and says how many it does not show."""
    before = len([line for line in stack.ingress.text().splitlines() if "no ingress has this stream key" in line])
    counted = stack.metric("ingress_rtmp_publishes_total", answer="refused")
    words = await asyncio.to_thread(try_keys, stack.port["rtmp"], 60)
    assert any("no ingress has this stream key" in w for w in words)
    assert stack.metric("ingress_rtmp_publishes_total", answer="refused") >= counted + 40
    lines = [line for line in stack.ingress.text().splitlines() if "no ingress has this stream key" in line][before:]
    assert len(lines) <= 45, "20 in ten seconds, and the test may lie across two"
