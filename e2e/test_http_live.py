"""Streams over HTTP that have no end: radio, MPEG-TS and FLV as media servers send them, and live HLS. They are live: followed as they
come, and asked for again when they break."""

import asyncio
import signal
import sys
import time
from contextlib import contextmanager

import pytest
from conftest import run
from livekit.protocol import ingress as pb

from rig import Stack, Viewer, free_ports
from rig.processes import Program
from rig.pulls import AAC, H264, live_hls, make, pull, turn
from rig.web import Web

SECONDS = 12


@pytest.fixture(scope="module")
def stack():
    for s in run(Stack("\nurl: {reconnect: 6s, timeout: 2s}\n")):
        yield s.start()


@contextmanager
def streaming(stack):
    """A server of its own for each: what it does while it is away would hit others."""
    web = Web(stack.dir)
    web.server.pace = SECONDS
    try:
        yield web
    finally:
        web.close()


KINDS = {
    "mp3": (["-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0"], False),
    "opus.ogg": (["-c:a", "libopus", "-b:a", "64k", "-page_duration", "100000", "-f", "ogg"], False),
    "ts": ([*H264, *AAC, "-f", "mpegts"], True),
    "flv": ([*H264, *AAC, "-f", "flv", "-flvflags", "no_duration_filesize"], True),
}


def endless(stack, kind):
    coding, video = KINDS[kind]
    return make(stack, f"endless.{kind}", *coding, video=video, seconds=SECONDS), video


async def test_live_streams_reconnect_after_a_cut(stack):
    kinds = {"mp3": "radio", "opus.ogg": "endless", "ts": "endless", "flv": "endless"}
    for kind in kinds:
        endless(stack, kind)
    await asyncio.gather(*(live(stack, kind, how) for kind, how in kinds.items()))


async def live(stack, kind, how):
    name, video = endless(stack, kind)
    room = f"endless-{kind}".replace(".", "-")
    with streaming(stack) as web:
        async with Viewer(stack, room) as viewer:
            async with turn():
                info = await pull(stack, room, f"{web.url}/{how}/{name}")
            await viewer.wait_sound()
            if video:
                await viewer.wait_size(320, 180)
            await cut(web)
            heard, seen = len(viewer.levels), len(viewer.frames)
            await viewer.wait("sound after the cut", lambda v: sum(level > 300 for _, level in v.levels[heard:]) > 50)
            if video:
                await viewer.wait("pictures after the cut", lambda v: len(v.frames) > seen + 30)
            if how == "radio":
                return await stack.delete(info.ingress_id)
            # Followed as it goes on, not from where it broke: it is over when the stream is.
            over = web.server.flowing[name] + SECONDS
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 40)
            assert not state.error and -2 < time.monotonic() - over < 5


def asked_again(web):
    """Waits for an attempt that found it gone."""
    before, end = len(web.requests), time.monotonic() + 20
    while len(web.requests) == before:
        assert time.monotonic() < end, "nobody asked again"
        time.sleep(0.05)


async def cut(web):
    """The server is gone until somebody has found it so."""
    web.server.away = True
    await asyncio.to_thread(asked_again, web)
    web.server.away = False


async def test_radio_with_the_same_beginning_is_live(stack):
    """A source that is started again, as with its jingle."""
    name, _ = endless(stack, "mp3")
    with streaming(stack) as web:
        async with Viewer(stack, "endless-again") as viewer:
            info = await pull(stack, "endless-again", f"{web.url}/icecast/{name}")
            await viewer.wait_sound()
            await cut(web)
            heard = len(viewer.levels)
            await viewer.wait("sound after it", lambda v: sum(level > 300 for _, level in v.levels[heard:]) > 150)
            assert (await stack.info(info.ingress_id)).state.status == pb.IngressState.ENDPOINT_PUBLISHING
            await stack.delete(info.ingress_id)


@pytest.mark.words("has stopped")
async def test_a_lost_stream_ends_with_an_error(stack):
    name, _ = endless(stack, "mp3")
    with streaming(stack) as web:
        async with Viewer(stack, "endless-gone") as viewer:
            info = await pull(stack, "endless-gone", f"{web.url}/radio/{name}")
            await viewer.wait_sound()
            web.server.away = True
            state = await stack.wait_state(info.ingress_id, "ERROR", 40)
    assert "File not found" in state.error, state.error


@pytest.mark.words("has stopped")
async def test_live_hls_follows_its_server(stack, ended):
    await asyncio.gather(restarted(stack, ended), paused(stack, ended))


async def restarted(stack, ended):
    """A server and its encoder that are gone for some seconds and begin again, with other numbers, names and times."""
    [port] = free_ports(1)
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(stack.dir / "restarted")]
    encoder = await live_hls(stack.dir / "restarted", ended)
    server = ended(Program("files", serve, stack.dir / "files.log"))
    server.wait_port(port)
    async with Viewer(stack, "hls-restarted") as viewer:
        async with turn():
            info = await pull(stack, "hls-restarted", f"http://127.0.0.1:{port}/list.m3u8")
        await viewer.wait("two seconds of it", lambda v: len(v.frames) > 60)
        before = await stack.wait_state(info.ingress_id, "PUBLISHING")
        server.kill(), encoder.kill()
        for path in (stack.dir / "restarted").iterdir():
            path.unlink()
        gone, again = time.monotonic(), asyncio.create_task(live_hls(stack.dir / "restarted", ended, 2))
        await asyncio.sleep(3.5)
        await again
        ended(Program("files", serve, stack.dir / "files.log")).wait_port(port)
        back = time.monotonic()
        await viewer.wait("two seconds after it", lambda v: sum(f.at > back for f in v.frames) > 60)
        heard = len(viewer.levels)
        await viewer.wait("sound after it", lambda v: sum(level > 300 for _, level in v.levels[heard:]) > 50)
        state = (await stack.info(info.ingress_id)).state
        assert (state.status, state.resource_id) == (before.status, before.resource_id)
        assert back - gone >= 3.5
        await stack.delete(info.ingress_id)


async def paused(stack, ended):
    """An encoder that pauses is waited for; one that does not go on, and has not said that it ended, for a time that is configured."""
    encoder = await live_hls(stack.dir / "paused", ended)
    with streaming(stack) as web:
        async with Viewer(stack, "hls-paused") as viewer:
            async with turn():
                info = await pull(stack, "hls-paused", f"{web.url}/file/paused/list.m3u8")
            await viewer.wait("two seconds of it", lambda v: len(v.frames) > 60)
            encoder.signal(signal.SIGSTOP)
            await asyncio.sleep(4)
            encoder.signal(signal.SIGCONT)
            seen = len(viewer.frames)
            await viewer.wait("four seconds after it", lambda v: len(v.frames) > seen + 120)
            encoder.kill()
            state = await stack.wait_state(info.ingress_id, "ERROR", 20)
            asked = len(web.requests)
            assert "has had nothing new for 6s" in state.error, state.error
            await asyncio.sleep(1)  # nobody asks any more
            assert len(web.requests) == asked
