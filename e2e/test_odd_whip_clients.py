"""WHIP clients that are not as browsers are, from public reports: small stacks without identification of their streams, layers as they were
offered before stream ids, B-frames, G.711, offers of devices. What a viewer sees of each, or what its user is told."""

import asyncio
import re
import types

import pytest
from aiortc import RTCRtpSender
from aiortc.rtp import RtcpByePacket
from livekit.protocol import ingress as pb

from rig import Viewer, numbered_clip
from rig.media import h264
from rig.together import at_once
from rig.whip import FRAGMENT, DatachannelWhip, Pictures, Whip, ask

WHIP = pb.IngressInput.WHIP_INPUT


class OddWhip(Whip):
    """aiortc with an offer that is changed on its way."""

    def __init__(self, *args, change=lambda sdp: sdp, sound=None, **more):
        super().__init__(*args, **more)
        self.change, self.sound = change, sound

    async def offer(self):
        await super().offer()
        if self.sound:
            [audio] = [t for t in self.connection.getTransceivers() if t.kind == "audio"]
            audio.setCodecPreferences([c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == self.sound])
            await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.change(self.connection.localDescription.sdp)


def nameless(sdp):
    """Neither SSRCs nor the MID in packets."""
    return re.sub(r"a=(ssrc|extmap:\d+ urn:ietf:params:rtp-hdrext:sdes:mid).*\r\n", "", sdp)


def misnamed(sdp):
    """Other SSRCs than will be sent."""
    without_mid = re.sub(r"a=extmap:\d+ urn:ietf:params:rtp-hdrext:sdes:mid.*\r\n", "", sdp)
    return re.sub(r"(a=ssrc(?:-group:\w+ |:))(\d+)", lambda m: m[1] + str(int(m[2]) ^ 0x5555), without_mid)


async def seen(stack, room, change, transcode=False, client=None, **more):
    """Numbered pictures in their order, and the tone."""
    info = await stack.create(room, WHIP, enable_transcoding=transcode)
    async with Viewer(stack, room) as viewer, (client or OddWhip)(stack.whip_url, info.stream_key, change=change, **more) as client:
        assert client.answer.status == 201, client.answer
        await viewer.wait_numbers(20)
        await viewer.wait_tone(440)
        await stack.wait_state(info.ingress_id, "PUBLISHING")


async def test_streams_that_nothing_names(stack):
    """Payload types tell which is which: passed through and decoded, with pictures lost on the way and without."""
    await at_once(
        seen(stack, "nameless", nameless),
        seen(stack, "nameless-transcoded", nameless, transcode=True),
        seen(stack, "misnamed", misnamed),
    )


async def leaves(stack, client, info):
    """The client ends its session before the test is over."""
    client.signal(2)
    await stack.wait_state(info.ingress_id, "INACTIVE")


async def test_layers_by_their_ssrcs(stack, ended):
    """All layers of `a=ssrc-group:SIM` are taken; the answer says nothing of stream ids that the client does not know."""
    info = await stack.create("sim", WHIP, enable_transcoding=False)
    async with Viewer(stack, "sim") as viewer:
        sender = ended(DatachannelWhip(stack, stack.whip_url, info.stream_key, name="sim", size=(160, 90), layers=[(320, 180), (640, 360)]))
        await viewer.wait_size(640, 360)
        await viewer.wait_sound()
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        seen = len(viewer.frames)
        await viewer.wait("pictures", lambda v: len(v.frames) > seen + 30)
        sizes = {f[2:] for f in viewer.frames[seen:]}
        assert sizes == {(640, 360)}, sizes
        await viewer.ask("LOW")
        await viewer.wait_size(160, 90)
        await leaves(stack, sender, info)
    assert "simulcast" not in sender.text() and "a=rid" not in sender.text(), sender.text()


@pytest.fixture(scope="module")
def reordered(tmp_path_factory):
    """Numbered pictures with B-frames."""
    coding = [*h264(15, "500k"), "-g", "15", "-bf", "2", "-b_strategy", "0", "-profile:v", "main"]
    muxer = ("-f", "mp4")
    return numbered_clip(tmp_path_factory.mktemp("clips") / "b.mp4", 60, fps=15, coding=coding, sound=(), muxer=muxer)


@pytest.mark.words("B-frames")
async def test_b_frames(stack, ended, reordered):
    """They are told where they are passed through, and put in order where they are decoded."""
    await at_once(b_frames_told(stack, ended, reordered), b_frames_ordered(stack, ended, reordered))


async def b_frames_told(stack, ended, clip):
    info = await stack.create("b-told", WHIP, enable_transcoding=False)
    async with Viewer(stack, "b-told"):
        sender = ended(DatachannelWhip(stack, stack.whip_url, info.stream_key, name="b-told", clip=clip))
        async with asyncio.timeout(25):
            while "B-frames" not in (state := (await stack.info(info.ingress_id)).state).error:
                await asyncio.sleep(0.2)
        assert state.status == state.ENDPOINT_PUBLISHING
        await leaves(stack, sender, info)


async def b_frames_ordered(stack, ended, clip):
    info = await stack.create("b-ordered", WHIP, enable_transcoding=True)
    async with Viewer(stack, "b-ordered") as viewer:
        sender = ended(DatachannelWhip(stack, stack.whip_url, info.stream_key, name="b-ordered", clip=clip))
        await viewer.wait_numbers(1)
        start = len(viewer.frames)
        await viewer.wait("pictures", lambda v: len(v.frames) >= start + 60)
        numbers = viewer.numbers(start)
        assert numbers == sorted(numbers) and len(set(numbers)) >= 50, numbers
        assert (await stack.info(info.ingress_id)).state.error == ""
        await leaves(stack, sender, info)


async def test_g711(stack):
    """It is decoded where all is transcoded, and refused in words where a room would have to take it."""
    await at_once(
        seen(stack, "pcmu", lambda sdp: sdp, transcode=True, sound="audio/PCMU"),
        seen(stack, "pcma-static", lambda sdp: sdp.replace("a=rtpmap:8 PCMA/8000\r\n", ""), transcode=True, sound="audio/PCMA"),
    )
    info = await stack.create("pcmu-passed", WHIP, enable_transcoding=False)
    async with OddWhip(stack.whip_url, info.stream_key, sound="audio/PCMU") as client:
        assert client.answer.status == 406 and "enable_transcoding" in client.answer.body, client.answer


def small_device(sdp):
    """As an ESP32 offers: sound over another profile, it takes part in the handshake as server, two formats that say next to nothing."""
    sdp = re.sub(r"m=audio (\d+) UDP/TLS/RTP/SAVPF", r"m=audio \1 UDP/TLS/RTP/SAVP", sdp)
    return sdp.replace("a=setup:actpass", "a=setup:passive")


class SlowWhip(OddWhip):
    """Takes its time for the handshake: more than it takes to double the wait between two attempts a few times."""

    DELAY = 7

    async def offer(self):
        sdp = await super().offer()
        transport = self.connection.getTransceivers()[0].sender.transport
        start = transport.start

        async def later(this, parameters):
            await asyncio.sleep(self.DELAY)
            waiting = this.transport._connection._queue
            while not waiting.empty():  # a device keeps nothing of what came until then
                waiting.get_nowait()
            await start(parameters)

        transport.start = types.MethodType(later, transport)
        return sdp


async def test_a_small_device(stack):
    """Such an offer, and a device that needs seconds until it takes part in the handshake."""
    await at_once(seen(stack, "device", small_device), seen(stack, "slow-device", small_device, client=SlowWhip))


async def test_another_source_of_pictures(stack):
    """Camera, then screen: another size by the same stream, whose end was announced (RTCP BYE) though it goes on."""
    info = await stack.create("replaced", WHIP, enable_transcoding=False)
    async with Viewer(stack, "replaced") as viewer, Whip(stack.whip_url, info.stream_key) as client:
        await viewer.wait_size(320, 180)
        [sender] = [s for s in client.connection.getSenders() if s.kind == "video"]
        await sender._send_rtcp([RtcpByePacket(sources=[sender._ssrc])])
        sender.replaceTrack(Pictures((640, 360), 15))
        await viewer.wait_size(640, 360)
        seen = len(viewer.frames)
        await viewer.wait("pictures", lambda v: len(v.frames) > seen + 30)
        assert (await stack.info(info.ingress_id)).state.error == ""


async def test_candidates_without_a_tag(stack):
    """The request is refused in words; what flows goes on."""
    info = await stack.create("tagless", WHIP, enable_transcoding=False)
    async with Viewer(stack, "tagless") as viewer, Whip(stack.whip_url, info.stream_key) as client:
        await viewer.wait_numbers(5)
        refused = await ask("PATCH", client.session, b"a=end-of-candidates\r\n", {**FRAGMENT, **client.headers})
        assert refused.status == 428 and "If-Match" in refused.body, refused
        seen = len(viewer.frames)
        await viewer.wait("pictures", lambda v: len(v.frames) > seen + 30)
