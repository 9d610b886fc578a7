"""An instance that drains hands what it pulls live over to another; what has a beginning, and what nobody else takes, goes on where it is."""

import asyncio
import contextlib
import signal
import time

import pytest
from conftest import run

from rig import Reports, Stack, Viewer, free_ports, status_name
from rig.processes import Program
from rig.pulls import AAC, FAST, H264, live_hls, make, pull
from rig.web import Web

# For how long a viewer may see nothing. The other one joins the room when it has media; measured 0.1 to 0.3 s, and 0.9 s on a busy one.
MAX_GAP = 3.0


@pytest.fixture
def camera():
    """The port of an RTSP camera, which the alias `camera` leads to."""
    [port] = free_ports(1)
    return port


@pytest.fixture
def stack(webhooks, camera):
    """One for each test: an ingress that drains takes nothing more."""
    yaml = f"\nurl: {{reconnect: 6s, timeout: 3s}}\nurl_aliases: {{camera: rtsp://127.0.0.1:{camera}/live}}\n"
    for s in run(Stack(yaml, webhook=webhooks.url)):
        yield s.start()


@pytest.fixture
def reports(stack):
    heard = Reports(stack)
    yield heard
    heard.close()


def srt_server(stack):
    """SRT for any number of callers."""
    [port] = free_ports(1)
    made = (
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30"
        " ! h264parse config-interval=1 ! mpegtsmux name=mux alignment=7"
        f" ! srtsink uri=srt://127.0.0.1:{port}?mode=listener wait-for-connection=false latency=100"
        " audiotestsrc is-live=true freq=330 volume=0.5 ! audioconvert ! avenc_aac ! aacparse ! mux."
    )
    return Program("srt-server", ["gst-launch-1.0", "-q", *made.split()], stack.dir / "srt-server.log"), f"srt://127.0.0.1:{port}?mode=caller"


@contextlib.contextmanager
def served(stack):
    web = Web(stack.dir)
    web.server.pace = 60
    try:
        yield web
    finally:
        web.close()


async def source(stack, kind, web, camera, ended):
    """The URL of something live."""
    if kind == "hls":
        await live_hls(stack.dir / "hls", ended)
        return f"{web.url}/file/hls/list.m3u8"
    if kind == "http":
        make(stack, "endless.ts", *H264, *AAC, "-f", "mpegts", seconds=60)
        return f"{web.url}/endless/endless.ts"
    if kind == "srt":
        program, url = srt_server(stack)
        ended(program)
        return url
    ended(stack.start_rtsp(camera))
    return "http://alias.invalid/camera"


class States:
    """What the API says of an ingress, asked all the time."""

    def __init__(self, stack, ingress_id):
        self.stack, self.ingress_id, self.seen = stack, ingress_id, []

    async def __aenter__(self):
        self.task = asyncio.create_task(self.ask())
        return self

    async def __aexit__(self, *exc):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def ask(self):
        while True:
            info = await self.stack.info(self.ingress_id)
            seen = (status_name(info.state), info.state.resource_id)
            if not self.seen or self.seen[-1] != seen:
                self.seen.append(seen)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["hls", "http", "srt", "rtsp"])
async def test_a_live_pull_is_handed_over(stack, webhooks, reports, ended, camera, kind):
    room = f"handed-{kind}"
    with served(stack) as web:
        url = await source(stack, kind, web, camera, ended)
        async with Viewer(stack, room) as viewer:
            info = await pull(stack, room, url)
            await viewer.wait_size(320, 180)
            await viewer.wait_sound()
            before = await stack.wait_state(info.ingress_id, "PUBLISHING")
            another, _ = stack.start_another()
            async with States(stack, info.ingress_id) as states:
                began = time.monotonic()
                stack.ingress.signal(signal.SIGTERM)
                assert await asyncio.to_thread(stack.ingress.wait_exit, 20) == 0
                left = time.monotonic() - began
                after = await stack.wait_state(info.ingress_id, "PUBLISHING", 5)
                seen = len(viewer.frames)
                await viewer.wait("pictures of the other instance", lambda v: len(v.frames) > seen + 90)
                await viewer.wait_sound()
            gap = viewer.longest_gap(began - 1)
            print(f"{kind}: {gap:.2f} s without a picture, the old instance has ended after {left:.2f} s; states: {states.seen}")
            assert another.running() and gap < MAX_GAP
            assert after.resource_id != before.resource_id and after.started_at > before.started_at
            assert {status for status, _ in states.seen} <= {"BUFFERING", "PUBLISHING"}, states.seen
            assert set(reports.statuses(info.ingress_id)) <= {"BUFFERING", "PUBLISHING"}
            assert "ingress_ended" not in webhooks.of(info.ingress_id)
            # It is the other's to command now.
            await stack.delete(info.ingress_id)
            await stack.wait_participant(room, f"{room}-pub", here=False)


async def test_a_file_is_not_handed_over(stack, reports):
    """It would begin anew: it is played to its end where it is."""
    make(stack, "film.mp4", *H264, *AAC, *FAST, seconds=12)
    with served(stack) as web:
        async with Viewer(stack, "film") as viewer:
            info = await pull(stack, "film", f"{web.url}/file/film.mp4")
            await viewer.wait_size(320, 180)
            before = await stack.wait_state(info.ingress_id, "PUBLISHING")
            stack.start_another()
            stack.ingress.signal(signal.SIGTERM)
            after = await stack.wait_state(info.ingress_id, "COMPLETE", 25)
            assert after.resource_id == before.resource_id
            assert await asyncio.to_thread(stack.ingress.wait_exit, 5) == 0
    assert {r.state.resource_id for r in reports.of(info.ingress_id)} == {before.resource_id}


async def test_with_nobody_else_it_goes_on(stack, reports, ended):
    """And is taken over by an instance that comes later."""
    with served(stack) as web:
        await live_hls(stack.dir / "hls", ended)
        async with Viewer(stack, "alone") as viewer:
            info = await pull(stack, "alone", f"{web.url}/file/hls/list.m3u8")
            await viewer.wait_size(320, 180)
            before = await stack.wait_state(info.ingress_id, "PUBLISHING")
            stack.ingress.signal(signal.SIGTERM)
            stack.ingress.wait_log("draining")
            seen = len(viewer.frames)
            await viewer.wait("more pictures", lambda v: len(v.frames) > seen + 60)
            assert stack.ingress.running()
            stack.start_another()
            assert await asyncio.to_thread(stack.ingress.wait_exit, 40) == 0
            after = await stack.wait_state(info.ingress_id, "PUBLISHING", 5)
            assert after.resource_id != before.resource_id
            await stack.delete(info.ingress_id)
    assert set(reports.statuses(info.ingress_id)) <= {"BUFFERING", "PUBLISHING"}


async def test_a_playlist_that_ends_meanwhile_is_not_played_anew(stack, reports, ended):
    """An event's playlist lists it from its beginning."""
    with served(stack) as web:
        encoder = await live_hls(stack.dir / "hls", ended)
        async with Viewer(stack, "event") as viewer:
            info = await pull(stack, "event", f"{web.url}/file/hls/list.m3u8")
            await viewer.wait_size(320, 180)
            before = await stack.wait_state(info.ingress_id, "PUBLISHING")
            stack.start_another()
            encoder.signal(signal.SIGINT)
            await asyncio.to_thread(encoder.wait_exit, 10)
            stack.ingress.signal(signal.SIGTERM)
            after = await stack.wait_state(info.ingress_id, "COMPLETE", 25)
            assert after.resource_id == before.resource_id
            assert await asyncio.to_thread(stack.ingress.wait_exit, 5) == 0
