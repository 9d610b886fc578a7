"""Whether lips match: a picture that flashes and a sound that beeps at the same points of media time, and what a viewer has of both.

Each picture carries its number, so *any* picture tells when the flash was shown, and rates at which no picture falls on a
whole second need no care. A beep is found to the sample.
"""

import asyncio
import statistics
import time
from collections import namedtuple
from fractions import Fraction

import numpy as np
from livekit import rtc

from .media import Source, numbered_clip
from .picture import BLACK, strip, strip_height
from .viewer import Viewer

PERIOD = 30  # pictures from one flash (and beep) to the next
BEEP = 0.1  # seconds
LOUD = 0.15  # of full scale: between the beep's level and that of the hum between beeps, which keeps DTX from starting
QUIET = 0.3  # seconds without anything loud before an onset counts

# Milliseconds by which the sound comes after the picture (negative: before), and when.
Offset = namedtuple("Offset", "at sound_after_picture_ms")


def beep_filter(fps, rate):
    """The ffmpeg source of a sound that beeps with each PERIOD-th picture of a stream of `fps` (a Fraction)."""
    period = Fraction(PERIOD) / fps
    loud, hum = "0.5*sin(2*PI*1000*t)", "0.01*sin(2*PI*200*t)"
    beep = f"if(lt(mod(t\\,{period.numerator}/{period.denominator})\\,{BEEP})\\,{loud}\\,{hum})"
    return f"aevalsrc={beep}|{beep}:s={rate}"


def beeps(fps, rate):
    """The same as an input that is read at its pace."""
    return ["-re", "-f", "lavfi", "-i", beep_filter(fps, rate)]


def flashing(target, log, fps=Fraction(30), rate=48000, **options):
    """A source for an ingress: numbered pictures, and beeps."""
    return Source(target, log, fps=fps, tone=beeps(fps, rate), **options)


def flashing_clip(path, seconds, fps=Fraction(30), rate=48000, **options):
    """Writes a file of the same."""
    return numbered_clip(path, seconds, fps=fps, tone=beep_filter(fps, rate), **options)


class Onsets:
    """Finds the beginnings of beeps in sound that comes piece by piece."""

    def __init__(self):
        self.found, self._loud_at = [], None

    def feed(self, at, samples, rate):
        """`samples` (one channel, -1 to 1), the first of which is heard at `at`."""
        for i in np.flatnonzero(np.abs(samples) > LOUD):
            when = at + i / rate
            if self._loud_at is None or when - self._loud_at > QUIET:
                self.found.append(when)
            self._loud_at = when


class Ears(Viewer):
    """A viewer that notes when beeps begin."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.onsets = Onsets()

    def heard(self, at, frame):
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)[:, 0] / 32768
        self.onsets.feed(at, samples, frame.sample_rate)

    def offsets(self, fps, since=0.0):
        """One Offset for each beep heard after `since`."""
        found = []
        seen = [f for f in self.frames if f.number is not None and f.at > since - 1]
        times = [f.at for f in seen]
        for onset in (o for o in self.onsets.found if o > since):
            near = seen[max(0, np.searchsorted(times, onset) - 1) :][:1]
            if not near or abs(near[0].at - onset) > 1:
                continue
            # When the flash was or will be shown, by the pictures around it: their median is not moved by one that was late.
            number = round(near[0].number / PERIOD) * PERIOD
            around = [f.at - float((f.number - number) / fps) for f in seen if abs(f.number - number) <= PERIOD // 2]
            found.append(Offset(onset, 1000 * (onset - statistics.median(around))))
        return found


async def reference(stack, seconds, fps=30):
    """Offsets as the measuring itself makes them: LiveKit's own SDK publishes picture and sound that belong together."""
    async with Ears(stack, "reference") as viewer:
        room = rtc.Room()
        await room.connect(stack.ws_url, stack.token("reference", "publisher"))
        picture, sound = rtc.VideoSource(640, 360), rtc.AudioSource(48000, 1, queue_size_ms=0)
        # Camera and microphone: only these two does the SFU put into one stream, within which a viewer matches lips.
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        voice = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await room.local_participant.publish_track(rtc.LocalVideoTrack.create_video_track("v", picture), options)
        await room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("a", sound), voice)
        start = time.monotonic() + 0.2
        await asyncio.gather(_pictures(picture, start, seconds, fps), _sound(sound, start, seconds, fps))
        await room.disconnect()
        return viewer.offsets(Fraction(fps), start + seconds / 2)


async def _pictures(source, start, seconds, fps):
    rows, above = strip_height(360), (360 - strip_height(360)) // 2
    for number in range(int(seconds * fps)):
        luma = np.full((360, 640), BLACK, np.uint8)
        luma[above : above + rows] = strip(number, 640, 360)
        data = luma.tobytes() + bytes([128]) * (640 * 360 // 2)
        await asyncio.sleep(max(0.0, start + number / fps - time.monotonic()))
        source.capture_frame(rtc.VideoFrame(640, 360, rtc.VideoBufferType.I420, data))


async def _sound(source, start, seconds, fps):
    rate, step = 48000, 480
    for k in range(int(seconds * rate / step)):
        t = (np.arange(step) + k * step) / rate
        wave = np.where(t % (PERIOD / fps) < BEEP, 0.5 * np.sin(2 * np.pi * 1000 * t), 0.01 * np.sin(2 * np.pi * 200 * t))
        samples = (wave * 32767).astype(np.int16)
        # A piece of sound is there when its last sample has been.
        await asyncio.sleep(max(0.0, start + (k + 1) * step / rate - time.monotonic()))
        await source.capture_frame(rtc.AudioFrame(samples.tobytes(), rate, 1, step))
