"""What `./x bench --loss` measures: what a viewer sees and hears while packets get lost, on the way to the ingress by each WHIP client,
and on the way from it to livekit-server.

So many of the packets of either direction are dropped, and reports and requests with them. Some come late, behind the next few.
"""

import asyncio
import time
from contextlib import AsyncExitStack

from livekit.protocol import ingress as pb

from rig import Stack, Viewer
from rig.browser import Browser
from rig.lossy import LossyDoor
from rig.uplink import Uplink
from rig.whip import FfmpegWhip, Whip

LOSSES = (0.01, 0.05, 0.1)
# Of a hundred packets, so many come late.
LATE = 0.02
# Seconds until the senders' estimates, and what is learnt of the loss, have settled.
WARM_UP = 8
FPS = 15


async def watch(viewer, seconds):
    """What is seen and heard in so many seconds."""
    await viewer.wait("pictures", lambda v: len(v.frames) > 5, 40)
    await viewer.wait_sound()
    await asyncio.sleep(WARM_UP)
    since, (played, made_up) = time.monotonic(), await viewer.samples()
    await asyncio.sleep(seconds)
    until, now = time.monotonic(), await viewer.samples()
    seen = [f for f in viewer.frames if since < f.at <= until]
    return dict(
        fps=round(len(seen) / (until - since), 1), longest_gap_ms=round(1000 * viewer.longest_gap(since, until)),
        sound_made_up_percent=round(100 * (now[1] - made_up) / max(1, now[0] - played), 2), size=f"{seen[-1].width}x{seen[-1].height}",
    )


async def client(what, ways, stack, url, key):
    """Begins to push; it ends with `ways`. All send 640x360 at `FPS`, or what their page has."""
    if what == "aiortc":
        await ways.enter_async_context(Whip(url, key, size=(640, 360), fps=FPS, codec="video/VP8"))
    elif what == "chromium":
        browser = Browser(stack.dir)
        ways.callback(browser.end)
        page = await ways.enter_async_context(browser.page())
        answer = await page.start(url, key, codec="VP8")
        assert answer["status"] == 201, answer
    else:
        ways.callback(FfmpegWhip(stack, url, key, size=(640, 360), fps=FPS).end)


async def to_us(what, transcode, loss, seconds):
    stack = Stack(patient=False)
    try:
        stack.start()
        info = await stack.create("lossy", pb.IngressInput.WHIP_INPUT, enable_transcoding=transcode)
        async with AsyncExitStack() as ways:
            door = await ways.enter_async_context(LossyDoor(stack, loss=loss, reorder=LATE))
            viewer = await ways.enter_async_context(Viewer(stack, "lossy"))
            await client(what, ways, stack, door.url, info.stream_key)
            return dict(way="to us", client=what, transcoded=transcode, loss=loss, **await watch(viewer, seconds))
    finally:
        stack.stop()


async def to_the_sfu(loss, seconds):
    """A transcoded session: aiortc's, on a good network up to the ingress."""
    stack = Stack(patient=False)
    try:
        stack.start_redis()
        stack.start_livekit()
        async with Uplink(stack, loss=loss, reorder=LATE):
            stack.start_ingress()
            info = await stack.create("lossy", pb.IngressInput.WHIP_INPUT, enable_transcoding=True)
            async with AsyncExitStack() as ways:
                viewer = await ways.enter_async_context(Viewer(stack, "lossy"))
                await client("aiortc", ways, stack, stack.whip_url, info.stream_key)
                return dict(way="to the SFU", loss=loss, **await watch(viewer, seconds))
    finally:
        stack.stop()


async def all(show, seconds, parts=()):
    """Each of the measurements, or those of the named clients; "sfu" is the way to livekit-server."""
    for what in ("aiortc", "chromium", "ffmpeg"):
        if parts and what not in parts:
            continue
        for transcode in (False, True):
            for loss in LOSSES:
                show("loss", await to_us(what, transcode, loss, seconds))
    if not parts or "sfu" in parts:
        for loss in LOSSES:
            show("loss", await to_the_sfu(loss, seconds))
