"""A viewer: LiveKit's own SDK, which notes every frame that arrives."""

import asyncio
import math
import time
from collections import namedtuple

import numpy as np
from livekit import rtc

from .picture import read

SOUND_RATE = 48000  # of what the SDK hands out
# Seconds without a picture that a viewer calls frozen. Half of it is what a quiet machine stays below (0.16 s measured).
FROZEN = 1.0
STARVED = 5.0  # seconds within which something has to come of a track that a viewer is subscribed to

Seen = namedtuple("Seen", "at number width height")  # monotonic seconds, the frame's number or None, pixels


class Viewer:
    """`async with Viewer(stack, room) as viewer:` is in the room, subscribed to all that is published there."""

    def __init__(self, stack, room, identity="viewer"):
        self.stack, self.room_name, self.identity = stack, room, identity
        self.room = rtc.Room()
        self.frames, self.levels = [], []
        self.sound = np.zeros(SOUND_RATE // 2, np.float32)  # the last half second
        self.first_sound = None
        self.video = self.audio = None  # publications
        self.sound_track = None
        self.publishers, self.speakers, self._tasks = set(), set(), []
        self._subscriptions = []  # (since, kind, what had come before)

    async def __aenter__(self):
        self.room.on("track_subscribed", self._subscribed)
        self.room.on("active_speakers_changed", lambda speakers: self.speakers.update(s.identity for s in speakers))
        await self.room.connect(self.stack.ws_url, self.stack.token(self.room_name, self.identity), rtc.RoomOptions(auto_subscribe=True))
        return self

    async def __aexit__(self, *exc):
        self.stack.starved += self._starved()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    def _count(self, kind):
        return len(self.frames if kind == rtc.TrackKind.KIND_VIDEO else self.levels)

    def _starved(self):
        """The tracks of which nothing has come, though there was time."""
        late = time.monotonic() - STARVED
        names = {rtc.TrackKind.KIND_VIDEO: "video", rtc.TrackKind.KIND_AUDIO: "audio"}
        starved = [kind for since, kind, before in self._subscriptions if since < late and self._count(kind) == before]
        return [f"{self.identity} in {self.room_name}: {names[kind]}" for kind in starved]

    def _subscribed(self, track, publication, participant):
        self.publishers.add(participant.identity)
        self._subscriptions.append((time.monotonic(), track.kind, self._count(track.kind)))
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            self.video = publication
            self._tasks.append(asyncio.create_task(self._watch(track)))
        else:
            self.audio, self.sound_track = publication, track
            self._tasks.append(asyncio.create_task(self._listen(track)))

    async def _watch(self, track):
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        try:
            async for event in stream:
                frame, now = event.frame, time.monotonic()
                luma = np.frombuffer(frame.data, np.uint8, frame.width * frame.height).reshape(frame.height, frame.width)
                self.frames.append(Seen(now, read(luma), frame.width, frame.height))
                self.saw(frame)
        finally:
            await stream.aclose()

    async def _listen(self, track):
        stream = rtc.AudioStream(track)
        try:
            async for event in stream:
                now = time.monotonic()
                samples = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
                self.sound = np.concatenate([self.sound, samples])[-len(self.sound) :]
                if self.first_sound is None:
                    self.first_sound = now
                self.levels.append((now, float(np.sqrt((samples * samples).mean()))))
                self.heard(now, event.frame)
        finally:
            await stream.aclose()

    def saw(self, frame):
        """A picture, as I420; for those who want more than its number."""

    def heard(self, at, frame):
        """A piece of sound that begins to be heard at `at`; for those who want more than its level."""

    async def wait(self, what, condition, seconds=30):
        """Waits until `condition(self)` is true."""
        end = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > end:
                last = self.frames[-1] if self.frames else "no frame"
                raise AssertionError(f"{self.identity} saw no {what} within {seconds} s (last: {last}, {len(self.levels)} sounds)")
            await asyncio.sleep(0.02)

    async def wait_size(self, width, height, seconds=30):
        """Waits until frames of this size arrive."""
        await self.wait(f"{width}x{height}", lambda v: v.frames and v.frames[-1][2:] == (width, height), seconds)

    async def wait_sound(self, seconds=30):
        """Waits until something audible arrives (the sources here never fall below a tenth of this)."""
        await self.wait("sound", lambda v: any(level > 300 for _, level in v.levels[-20:]), seconds)

    async def wait_tone(self, hertz, seconds=30):
        """Waits until this tone is the loudest of what is heard."""
        await self.wait(f"tone of {hertz} Hz", lambda v: v.levels and v.levels[-1][1] > 300 and abs(v.tone() - hertz) < hertz * 0.03, seconds)

    def tone(self):
        """The loudest tone of the last half second, in hertz."""
        spectrum = np.abs(np.fft.rfft(self.sound * np.hanning(len(self.sound))))
        return float(np.argmax(spectrum)) * SOUND_RATE / len(self.sound)

    def numbers(self, since=0):
        """The numbers of the frames seen, from the `since`th frame on."""
        return [f.number for f in self.frames[since:] if f.number is not None]

    async def wait_numbers(self, count, seconds=30, over=-1):
        """Waits for `count` different numbers above `over`, checks that they came in order, and returns them."""
        await self.wait(f"{count} numbered frames", lambda v: len({n for n in v.numbers() if n > over}) >= count, seconds)
        found = [n for n in self.numbers() if n > over]
        assert found == sorted(found), found
        return found

    async def ask(self, quality):
        """Asks the server for a layer: "LOW", "MEDIUM" or "HIGH"."""
        self.video.set_video_quality(getattr(rtc.VideoQuality, f"VIDEO_QUALITY_{quality}"))

    async def samples(self):
        """How many samples of sound were played, and how many of them were made up for what did not come."""
        stats = [s.inbound_rtp.inbound for s in await self.sound_track.get_stats() if s.WhichOneof("stats") == "inbound_rtp"]
        return sum(s.total_samples_received for s in stats), sum(s.concealed_samples - s.silent_concealed_samples for s in stats)

    def longest_gap(self, since, until=math.inf):
        """The longest time without a picture, in seconds, among those that arrived in between."""
        at = [f.at for f in self.frames if since < f.at <= until]
        return max(b - a for a, b in zip(at, at[1:]))

    def latencies(self, sent, since=0.0):
        """Milliseconds from the hand-over of each numbered frame to its arrival here, for arrivals after `since`."""
        return [1000 * (f.at - sent[f.number]) for f in self.frames if f.at >= since and f.number in sent]
