"""WHIP over a bad network: what gets lost is asked for again, on the way to us, whether media is passed on or transcoded."""

import asyncio
import re
import time
from contextlib import asynccontextmanager

import pytest
from aiortc import RTCSessionDescription
from livekit.protocol import ingress as pb

from rig import Viewer
from rig.browser import Browser, chromium
from rig.lossy import Lossy, LossyDoor, without_candidates
from rig.viewer import FROZEN
from rig.whip import SDP, Whip, ask

# What a narrow line carries, in kbit/s: Chromium makes 600 and more of its page's picture.
NARROW = 300


@pytest.mark.parametrize("transcode", [False, True], ids=["passed-on", "transcoded"])
async def test_packet_loss_and_reordering(stack, transcode):
    """With nothing asked for again, fewer than half of the pictures are seen."""
    room = f"loss-{transcode}"
    info = await stack.create(room, pb.IngressInput.WHIP_INPUT, enable_transcoding=transcode)
    client = Whip(stack.whip_url, info.stream_key, size=(640, 360), codec="video/VP8")
    async with Viewer(stack, room) as viewer:
        try:
            offer = without_candidates(await client.offer())
            answer = await ask("POST", client.url, offer, {**SDP, **client.headers})
            assert answer.status == 201, answer
            async with Lossy(answer.body, loss=0.05, reorder=0.02) as network:
                await client.connection.setRemoteDescription(RTCSessionDescription(network.answer, "answer"))
                first = (await viewer.wait_numbers(5))[-1]
                await viewer.wait("a hundred pictures later", lambda v: max(v.numbers()) > first + 100, 60)
                assert network.dropped > 10, "the network was good"
                seen = {n for n in viewer.numbers() if first < n <= first + 100}
                assert len(seen) >= 70, sorted(set(range(first + 1, first + 101)) - seen)
                await viewer.wait_sound()
        finally:
            await client.connection.close()


async def test_lost_audio_is_retransmitted(stack):
    """By aiortc, which does not offer that (nor does OBS) but does it."""
    info = await stack.create("sound-again", pb.IngressInput.WHIP_INPUT)
    async with LossyDoor(stack, loss=0.1) as door, Viewer(stack, "sound-again") as viewer:
        async with Whip(door.url, info.stream_key, video=True) as client:
            await viewer.wait_sound()
            sound = int(re.search(r"a=rtpmap:(\d+) opus/", client.answer.body)[1])
            [network] = door.networks
            lost = lambda: {packet for packet in network.lost if packet[0] == sound}
            await viewer.wait("sound lost", lambda _: len(lost()) >= 20)
            before = lost()
            # Of those that were sent again one of ten is lost again, and asked for again.
            await viewer.wait("what was lost", lambda _: len(before & network.passed) >= 15)
            await client.delete()


@asynccontextmanager
async def browsing(stack, ended, room, loss):
    """Chromium that publishes into `room` through a door that loses so many; with its viewer and its page."""
    if not chromium():
        pytest.fail("no chromium: run this through ./x, which installs it")
    info = await stack.create(room, pb.IngressInput.WHIP_INPUT)
    browser = ended(Browser(stack.dir))
    async with LossyDoor(stack, loss=loss) as door, Viewer(stack, room) as viewer, browser.page() as page:
        answer = await page.start(door.url, info.stream_key, codec="VP8")
        assert answer["status"] == 201, answer
        yield door, viewer, page


async def test_a_browser_sends_redundant_audio(stack, ended):
    """Chromium does not send sound again. It repeats each packet in the next one where that is agreed on (audio/red)."""
    async with browsing(stack, ended, "sound-red", loss=0.1) as (door, viewer, _):
        await viewer.wait_sound()
        types = {packet[0] for packet in door.networks[0].passed}
        assert 63 in types and 111 not in types, types


def told(client):
    """How much aiortc's encoder was told to make, in bits a second."""
    [encoder] = [s._RTCRtpSender__encoder for s in client.connection.getSenders() if s.kind == "video"]
    return encoder.target_bitrate if encoder else 0


async def test_a_sender_gets_bandwidth_feedback(stack):
    """aiortc knows no transport-wide feedback and obeys a receiver's estimate: it begins with 1 Mbit/s."""
    good, bad = [await stack.create(room, pb.IngressInput.WHIP_INPUT) for room in ("rate-good", "rate-bad")]
    async with LossyDoor(stack, loss=0.4) as door, Viewer(stack, "rate-good") as viewer:
        async with Whip(stack.whip_url, good.stream_key, video=True) as client:
            await viewer.wait("more asked for", lambda _: told(client) > 2_000_000)
            await client.delete()
        async with Whip(door.url, bad.stream_key, video=True) as client:
            await viewer.wait("less asked for", lambda _: 0 < told(client) < 900_000)
            await client.delete()


async def test_a_browser_on_a_narrow_uplink_sends_less(stack, ended):
    """Chromium goes by transport-wide feedback: its pictures fit into the line soon, and none is frozen then."""
    async with browsing(stack, ended, "narrow-line", loss=0.0) as (door, viewer, page):

        async def target(what, condition, seconds=30):
            end = time.monotonic() + seconds
            while not condition(rate := (await page.run("whip.stats()"))["layers"][0].get("target") or 0):
                assert time.monotonic() < end, f"not {what}: {rate}"
                await asyncio.sleep(0.2)

        await viewer.wait_numbers(5)
        await target("at its rate", lambda rate: rate > 2 * NARROW * 1000)
        door.networks[0].kbits = NARROW
        await target("below the line's", lambda rate: rate < NARROW * 1000)
        since, seen = time.monotonic(), len(viewer.frames)
        await viewer.wait("pictures", lambda v: len(v.frames) >= seen + 45)
        assert viewer.longest_gap(since) < FROZEN
