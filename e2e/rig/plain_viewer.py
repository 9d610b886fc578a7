"""A viewer of H.265, which LiveKit's own SDK decodes with special hardware only: aiortc in the room by LiveKit's signalling."""

import asyncio
import json
from urllib.parse import urlencode

import aiohttp
import av
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription, codecs, rtcrtpreceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtcpFeedback, RTCRtpCodecParameters
from aiortc.sdp import candidate_from_sdp
from livekit.protocol import rtc as signalling

from . import whip  # noqa: F401 — makes aiortc take loopback addresses
from .picture import read
from .viewer import Seen, Viewer

START = b"\0\0\0\1"


def h265_depayload(payload):
    """Units behind start codes (RFC 7798 §4.4); of a fragment what it holds."""
    kind = payload[0] >> 1 & 0x3F
    if kind == 48:
        units, rest = b"", payload[2:]
        while rest:
            length = int.from_bytes(rest[:2], "big")
            units, rest = units + START + rest[2 : 2 + length], rest[2 + length :]
        return units
    if kind == 49:
        header = bytes([payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]])
        return (START + header if payload[2] & 0x80 else b"") + payload[3:]
    return START + payload


class H265Decoder:
    def __init__(self):
        self.codec = av.CodecContext.create("hevc", "r")
        self.codec.thread_count = 1  # no frames in threads, each of which would be late by one

    def decode(self, frame):
        return self.codec.decode(av.Packet(frame.data))


def teach_h265():
    """To aiortc, which knows H.264 and VP8."""
    if any(c.name == "H265" for c in codecs.CODECS["video"]):
        return
    feedback = [RTCRtcpFeedback(type="nack"), RTCRtcpFeedback(type="nack", parameter="pli")]
    codecs.CODECS["video"].append(RTCRtpCodecParameters("video/H265", 90000, payloadType=120, rtcpFeedback=feedback))
    depayload, get_decoder = codecs.depayload, codecs.get_decoder
    rtcrtpreceiver.depayload = lambda codec, data: h265_depayload(data) if codec.name == "H265" else depayload(codec, data)
    rtcrtpreceiver.get_decoder = lambda codec: H265Decoder() if codec.name == "H265" else get_decoder(codec)


class PlainViewer(Viewer):
    """As Viewer, for pictures only and without asking for layers."""

    async def __aenter__(self):
        teach_h265()
        assert any(c.mimeType == "video/H265" for c in RTCRtpReceiver.getCapabilities("video").codecs)
        self.http, self.peer, self.candidates = aiohttp.ClientSession(), RTCPeerConnection(), []
        query = {"access_token": self.stack.token(self.room_name, self.identity), "protocol": 9, "auto_subscribe": 1, "sdk": "python"}
        self.socket = await self.http.ws_connect(f"{self.stack.ws_url}/rtc?{urlencode(query)}")
        self.peer.on("track", lambda track: self._tasks.append(asyncio.create_task(self._take(track))))
        self._tasks.append(asyncio.create_task(self._signal()))
        return self

    async def __aexit__(self, *exc):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.peer.close()
        await self.socket.close()
        await self.http.close()

    async def _signal(self):
        offers = asyncio.Queue()
        self._tasks.append(asyncio.create_task(self._answer(offers)))
        async for message in self.socket:
            if message.type != aiohttp.WSMsgType.BINARY:
                continue
            said = signalling.SignalResponse.FromString(message.data)
            if said.WhichOneof("message") == "offer":
                offers.put_nowait(said.offer)
            elif said.WhichOneof("message") == "trickle" and said.trickle.target == signalling.SignalTarget.SUBSCRIBER:
                self.candidates.append(json.loads(said.trickle.candidateInit))
                await self._add_candidates()

    async def _answer(self, offers):
        while True:
            offer = await offers.get()
            await self.peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            await self.peer.setLocalDescription(await self.peer.createAnswer())
            request = signalling.SignalRequest()
            request.answer.type, request.answer.sdp, request.answer.id = "answer", self.peer.localDescription.sdp, offer.id
            await self.socket.send_bytes(request.SerializeToString())
            await self._add_candidates()
            # What is agreed on while aiortc still connects is not received.
            while self.peer.connectionState != "connected":
                await asyncio.sleep(0.02)

    async def _add_candidates(self):
        while self.candidates and self.peer.remoteDescription:
            told = self.candidates.pop()
            candidate = candidate_from_sdp(told["candidate"].removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = told["sdpMid"], told["sdpMLineIndex"]
            if candidate.protocol.lower() == "udp":
                await self.peer.addIceCandidate(candidate)

    async def _take(self, track):
        loop = asyncio.get_running_loop()
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if track.kind == "video":
                luma = frame.to_ndarray(format="gray")
                self.frames.append(Seen(loop.time(), read(luma), frame.width, frame.height))
