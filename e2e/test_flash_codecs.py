"""The codecs of Flash's own days over RTMP, each seen and heard; and sound in several tracks, as Enhanced RTMP carries it."""

import asyncio
import random

import numpy as np
import pytest

from rig import Feeder, Viewer, flv, numbered_clip, pulls
from rig.media import h264
from rig.together import at_once

SIZE, FPS = (320, 180), 15


def sound(codec, rate, *more):
    return ["-c:a", codec, "-ar", str(rate), "-ac", "1", *more]


# Pictures, sound and what the stored state calls them.
H264 = h264(FPS, "500k")
SPARK = ["-c:v", "flv", "-b:v", "2M", "-g", "15", "-pix_fmt", "yuv420p"]
SCREEN = ["-c:v", "flashsv", "-g", "15"]
# GStreamer 1.22 shows only the key frames of Screen Video 2 (libav gets no word of which are some), so here all are.
SCREEN2 = ["-c:v", "flashsv2", "-strict", "-2", "-g", "1"]
KINDS = {
    "spark-nellymoser": (SPARK, sound("nellymoser", 44_100), "video/x-flash-video", "audio/x-nellymoser"),
    "spark-nellymoser16": (SPARK, sound("nellymoser", 16_000), "video/x-flash-video", "audio/x-nellymoser"),
    "screen-speex": (SCREEN, sound("libspeex", 16_000), "video/x-flash-screen", "audio/x-speex"),
    "screen2-adpcm": (SCREEN2, sound("adpcm_swf", 22_050), "video/x-flash-screen", "audio/x-adpcm"),
    "h264-alaw": (H264, sound("pcm_alaw", 8_000), "video/H264", "audio/x-alaw"),
    "h264-mulaw": (H264, sound("pcm_mulaw", 8_000), "video/H264", "audio/x-mulaw"),
    "spark-pcm": (SPARK, sound("pcm_s16le", 44_100), "video/x-flash-video", "audio/x-raw"),
    "screen-pcm8": (SCREEN, sound("pcm_u8", 11_025), "video/x-flash-screen", "audio/x-raw"),
}


async def plays(stack, room, info, tags, video, audio):
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags))
        try:
            await viewer.wait_tone(330)
            await viewer.wait_numbers(20)
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert (state.video.mime_type, state.audio.mime_type) == (video, audio)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


@pytest.mark.core
@pytest.mark.parametrize("names", [list(KINDS)[:4], list(KINDS)[4:]], ids=["first", "second"])
async def test_flash_codecs(stack, tmp_path, names):
    clips = {}
    for name in names:
        pictures, tone, *_ = KINDS[name]
        clip = numbered_clip(tmp_path / f"{name}.flv", 12, size=SIZE, fps=FPS, coding=pictures, sound=tone)
        clips[name] = await stack.create(f"legacy-{name}"), flv.read(clip)

    async def one(name):
        try:
            await plays(stack, f"legacy-{name}", *clips[name], *KINDS[name][2:])
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from None

    await at_once(*(one(name) for name in names))


# Key frames of VP6 by what is random in them (nobody makes an encoder of it any more, and any bytes are a picture): these
# two, as FFmpeg decodes them, are dark and bright on the whole.
DARK, BRIGHT = (93, 29), (46, 237)  # the seed, and the mean of the luma


def vp6(seed):
    """A key frame of 320x192 (VP6 Bitstream & Decoder Specification 1.02, §9): version 6.0, simple profile, quantizer 10."""
    modes, coefficients = 2000, 8000  # bytes, enough for both to last to the picture's end
    macroblocks = bytes([12, 20, 12, 20])  # rows and columns, stored and shown
    offset = 2 + 2 + len(macroblocks) + modes - 2
    return bytes([10 << 1, 6 << 3]) + offset.to_bytes(2, "big") + macroblocks + random.Random(seed).randbytes(modes + coefficients)


def vp6_body(codec, seed):
    """A video tag of it (FLV §E.4.3.1): twelve lines cropped off, so that 180 are left; with alpha a second picture follows."""
    picture = vp6(seed)
    alpha = len(picture).to_bytes(3, "big") + picture + picture if codec == 5 else picture
    return bytes([0x10 | codec, 0x0C]) + alpha


class Brightness(Viewer):
    """A viewer that notes the brightness of what it sees."""

    def __init__(self, stack, room):
        super().__init__(stack, room)
        self.means = []

    def saw(self, frame):
        self.means.append(float(np.frombuffer(frame.data, np.uint8, frame.width * frame.height).mean()))


@pytest.mark.core
@pytest.mark.parametrize(("codec", "mime"), [(4, "video/x-vp6-flash"), (5, "video/x-vp6-alpha")], ids=["vp6", "alpha"])
async def test_vp6(stack, codec, mime):
    info = await stack.create(f"vp6-{codec}")
    async with Brightness(stack, f"vp6-{codec}") as viewer, Feeder(stack, info.stream_key) as feeder:

        async def feed():
            for i in range(2000):
                seed, _ = BRIGHT if i // 10 % 2 else DARK
                await feeder.send(flv.VIDEO, vp6_body(codec, seed), i * 100)
                await asyncio.sleep(0.1)

        feeding = asyncio.create_task(feed())
        try:
            await viewer.wait_size(320, 180)
            for _, mean in (DARK, BRIGHT):
                await viewer.wait(f"brightness of {mean}", lambda v, mean=mean: any(abs(m - mean) < 15 for m in v.means))
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert (state.video.mime_type, state.video.width, state.video.height) == (mime, 320, 180)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)


async def test_vp6_in_files(stack, web):
    """Pulled, too, their pictures have the height that their tags say, which the file's reader does not pass on."""
    for codec in (4, 5):
        tags = [flv.Tag(flv.VIDEO, i * 100, vp6_body(codec, BRIGHT[0])) for i in range(30)]
        (stack.dir / f"vp6-{codec}.flv").write_bytes(b"FLV\1\1" + bytes([0, 0, 0, 9]) + bytes(4) + flv.aggregate(tags))
    mimes = {4: "video/x-vp6-flash", 5: "video/x-vp6-alpha"}
    await at_once(*(pulls.plays(stack, f"vp6-file-{c}", f"{web.url}/file/vp6-{c}.flv", mime, None) for c, mime in mimes.items()))


@pytest.mark.words("no picture can be decoded")
async def test_malformed_vp6(stack):
    """What says it is VP6, and is not, ends in words that name it."""
    info = await stack.create("vp6")
    async with Feeder(stack, info.stream_key) as feeder:

        async def feed():
            for i in range(2000):
                await feeder.send(flv.VIDEO, b"\x14\0" + bytes([0x78, 0x46, 12, 20, 12, 20]) + bytes(range(200)), i * 20)
                await asyncio.sleep(0.02)

        feeding = asyncio.create_task(feed())
        try:
            state = await stack.wait_state(info.ingress_id, "ERROR", 30)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
    assert "VP6" in state.error, state.error


async def test_several_audio_tracks(stack, tmp_path):
    """Enhanced RTMP's multitrack: the first is heard, and the log says that the other is not."""
    first = flv.read(numbered_clip(tmp_path / "first.flv", 12, size=SIZE, fps=FPS, coding=H264))
    tone = "sine=frequency=550:sample_rate=48000"
    second = flv.read(numbered_clip(tmp_path / "second.flv", 12, size=SIZE, fps=FPS, coding=H264, tone=tone))

    def extra(tag):
        """The tag of another track: packet type 5 (multitrack), one track in it (E-RTMP v2)."""
        kind = 0 if flv.is_config(tag) else 1
        return flv.Tag(flv.AUDIO, tag.time, bytes([0x95, 0x00 | kind]) + b"mp4a\1" + tag.body[2:])

    others = [extra(t) for t in second if t.kind == flv.AUDIO]
    tags = sorted([*first, *others], key=lambda t: t.time)
    info = await stack.create("tracks")
    await plays(stack, "tracks", info, tags, "video/H264", "audio/aac")
    stack.ingress.wait_log("of several audio tracks only the first is taken")
