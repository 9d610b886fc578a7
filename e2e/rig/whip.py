"""WHIP clients: aiortc with numbered pictures, FFmpeg's own muxer, webrtcbin, libdatachannel, webrtc-rs, and HTTP by hand."""

import asyncio
import fractions
import http.client
import os
import time
from collections import namedtuple
from pathlib import Path
from urllib.parse import urlsplit

import aioice.ice
import av
import numpy as np
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from .media import QUIET, ffmpeg9, h264, picture_input, sound_input
from .picture import strip, strip_height
from .processes import Program, free_ports

Answer = namedtuple("Answer", "status headers body")  # headers by lower-case name

# aiortc leaves loopback out; here is nothing else.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


def request(method, url, body=b"", headers=None, timeout=15):
    """One request; whatever the status, an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path, body, headers or {})
        got = connection.getresponse()
        several = {}
        for name, value in got.getheaders():
            several.setdefault(name.lower(), []).append(value)
        return Answer(got.status, {name: ", ".join(values) for name, values in several.items()}, got.read().decode())
    finally:
        connection.close()


async def ask(method, url, body=b"", headers=None):
    """The same, beside other things."""
    return await asyncio.to_thread(request, method, url, body, headers)


class Pictures(VideoStreamTrack):
    """Pictures with their number in them (see picture.py); `sent` tells when each was made."""

    def __init__(self, size, fps):
        super().__init__()
        self.size, self.fps, self.number, self.sent, self.began = size, fps, 0, {}, None
        width, height = size
        self.ground = (np.add.outer(np.arange(height), np.arange(width)) % 200 + 20).astype(np.uint8)

    async def recv(self):
        if self.began is None:
            self.began = time.monotonic()
        await asyncio.sleep(max(0.0, self.began + self.number / self.fps - time.monotonic()))
        (width, height), rows = self.size, strip_height(self.size[1])
        luma = np.roll(self.ground, self.number * 4, axis=1)
        top = (height - rows) // 2
        luma[top : top + rows] = strip(self.number, width, height)
        frame = av.VideoFrame(width, height, "yuv420p")
        padded = np.pad(luma, ((0, 0), (0, frame.planes[0].line_size - width)))
        frame.planes[0].update(np.ascontiguousarray(padded).tobytes())
        for plane in frame.planes[1:]:
            plane.update(b"\x80" * plane.buffer_size)
        frame.pts, frame.time_base = self.number * 90000 // self.fps, fractions.Fraction(1, 90000)
        self.sent[self.number] = time.monotonic()
        self.number += 1
        return frame


class Tone(AudioStreamTrack):
    """A tone of 440 Hz, loud enough for `Viewer.wait_sound`."""

    async def recv(self):
        frame = await super().recv()
        samples = frame.samples
        at = np.arange(frame.pts, frame.pts + samples) / frame.sample_rate
        frame.planes[0].update((8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16).tobytes())
        return frame


class Whip:
    """aiortc as a WHIP client. `async with Whip(url, key) as client:` has offered; `answer` is what came back."""

    def __init__(self, url, key, size=(320, 180), fps=15, codec="video/H264", video=True, audio=True):
        self.url, self.key, self.codec = url, key, codec
        self.pictures = Pictures(size, fps) if video else None
        self.sent = self.pictures.sent if video else {}
        self.tone = Tone() if audio else None
        self.connection = RTCPeerConnection()
        self.answer = None

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def session(self):
        """The address of the session."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{self.answer.headers['location']}"

    async def offer(self):
        if self.tone:
            self.connection.addTrack(self.tone)
        if self.pictures:
            transceiver = self.connection.addTransceiver(self.pictures, direction="sendonly")
            known = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([c for c in known if c.mimeType == self.codec])
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def __aenter__(self):
        try:
            self.answer = await ask("POST", self.url, await self.offer(), {**SDP, **self.headers})
            if self.answer.status == 201:
                await self.connection.setRemoteDescription(RTCSessionDescription(self.answer.body, "answer"))
        except BaseException:
            await self.connection.close()
            raise
        return self

    async def __aexit__(self, *exc):
        await self.connection.close()

    async def delete(self):
        return await ask("DELETE", self.session, headers=self.headers)


class FfmpegWhip(Program):
    """FFmpeg's WHIP muxer pushing a test picture and a tone until it is ended."""

    def __init__(self, stack, url, key, name="ffmpeg-whip", size=(320, 180), fps=15):
        media = [*picture_input(*size, fps), *sound_input(), *h264(fps, "500k"), "-profile:v", "baseline", "-c:a", "libopus"]
        command = [ffmpeg9(), *QUIET[1:], *media, "-f", "whip", "-authorization", key, url]
        super().__init__(name, command, stack.dir / f"{name}.log")
        stack.programs.append(self)


class GstWhip(Program):
    """GStreamer's webrtcbin pushing a picture of 320x240 and a tone until it is ended; see gst_whip.py."""

    def __init__(self, stack, url, key, codec="H264", transport="udp", name="gst-whip"):
        script = Path(__file__).with_name("gst_whip.py")
        command = ["/usr/bin/python3", script, url, key, codec, transport]
        super().__init__(name, command, stack.dir / f"{name}.log")
        stack.programs.append(self)


def cache():
    """Where ./x keeps what it has installed and built for the tests."""
    return Path(os.environ.get("INGRESS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livekit-ingress")


def feed(stack, name, picture, sound, size, fps, layers=(), clip=None):
    """A test picture and a tone as RTP to these two ports, for clients that only pass it on. `layers` are sizes of further streams of the
    picture, with the SSRCs that follow; `clip` is a file whose H.264 is sent as it is in place of the picture."""
    inputs = ["-re", "-i", str(clip)] if clip else picture_input(*size, fps)
    media = [*QUIET, *inputs, *sound_input()]
    for ssrc, (width, height) in enumerate([size, *layers], 96):
        coding = [*h264(fps, "500k"), "-g", str(fps), "-profile:v", "baseline", "-s", f"{width}x{height}"]
        media += ["-map", "0:v", *(["-c:v", "copy", "-bsf:v", "h264_mp4toannexb"] if clip else coding)]
        media += ["-payload_type", "96", "-ssrc", str(ssrc), "-f", "rtp", f"rtp://127.0.0.1:{picture}?pkt_size=1200"]
    media += ["-map", "1:a", "-c:a", "libopus", "-payload_type", "111", "-ssrc", "111", "-f", "rtp", f"rtp://127.0.0.1:{sound}?pkt_size=1200"]
    stack.program(f"{name}-media", media)


class DatachannelWhip(Program):
    """libdatachannel with OBS' offer, pushing a test picture and a tone that ffmpeg makes; see datachannel_whip.cjs. `layers` and `clip` as
    for `feed`; layers are offered as browsers did before stream ids."""

    def __init__(self, stack, url, key, name="datachannel-whip", size=(320, 180), fps=15, address="127.0.0.1", layers=(), clip=None):
        picture, sound = free_ports(2)
        script = Path(__file__).with_name("datachannel_whip.cjs")
        command = ["node", script, url, key, str(picture), str(sound), address, str(1 + len(layers))]
        super().__init__(name, command, stack.dir / f"{name}.log", {**os.environ, "NODE_PATH": str(cache() / "node-datachannel-0.33.4" / "node_modules")})
        stack.programs.append(self)
        feed(stack, name, picture, sound, size, fps, layers, clip)


class RustWhip(Program):
    """webrtc-rs, pushing a test picture and a tone that ffmpeg makes; see rust_client."""

    def __init__(self, stack, url, key, name="rust-whip", size=(320, 180), fps=15):
        program = cache() / "rust-client" / "debug" / "rust-client"
        assert program.exists(), f"no {program}: run this through ./x, which builds it"
        (picture, sound), parts = free_ports(2), urlsplit(url)
        super().__init__(name, [program, parts.netloc, parts.path, key, picture, sound], stack.dir / f"{name}.log")
        stack.programs.append(self)
        feed(stack, name, picture, sound, size, fps)
