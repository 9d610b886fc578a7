"""What an ingress was created with, and what a source brings: layers, codecs, sizes, missing tracks."""

import asyncio

import pytest
from livekit.protocol import ingress as pb
from livekit.protocol import models

from rig import Push, Source, Viewer
from rig.media import h264

AUDIO, VIDEO = models.TrackType.AUDIO, models.TrackType.VIDEO
Preset = pb.IngressVideoEncodingPreset


def tracks(participant, kind):
    return [t for t in participant.tracks if t.type == kind]


def layers(participant):
    [track] = tracks(participant, VIDEO)
    return [(models.VideoQuality.Name(layer.quality), layer.width, layer.height, layer.bitrate) for layer in track.layers]


async def publish(stack, ended, room, size=(1280, 720), options=None, count=2, **push):
    """Pushes `size` into an ingress with these API options; returns its participant once it has `count` tracks."""
    info = await stack.create(room, **(options or {}))
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push-{room}", size=size, **push))
    return info, await stack.wait_participant(room, f"{room}-pub", tracks=count, seconds=20)


@pytest.mark.parametrize(
    "preset,expected",
    [
        ("H264_720P_30FPS_1_LAYER", [("HIGH", 1280, 720, 1_900_000)]),
        ("H264_540P_25FPS_2_LAYERS", [("LOW", 480, 270, 353_553), ("HIGH", 960, 540, 1_000_000)]),
        (
            "H264_1080P_30FPS_3_LAYERS",  # on a smaller source: its box shrinks to the source, its bitrate stays
            [("LOW", 480, 270, 437_500), ("MEDIUM", 960, 540, 1_237_436), ("HIGH", 1280, 720, 3_500_000)],
        ),
    ],
)
async def test_presets(stack, ended, preset, expected):
    room = f"preset-{preset}"
    options = dict(video=pb.IngressVideoOptions(preset=Preset.Value(preset)))
    _, participant = await publish(stack, ended, room, options=options)
    assert layers(participant) == expected


@pytest.mark.parametrize(
    "size,expected",
    [
        ((720, 1280), [("LOW", 102, 180), ("MEDIUM", 202, 360), ("HIGH", 406, 720)]),
        ((640, 480), [("LOW", 240, 180), ("MEDIUM", 480, 360), ("HIGH", 640, 480)]),
        ((640, 360), [("LOW", 320, 180), ("MEDIUM", 640, 360)]),
    ],
)
async def test_layers_keep_the_aspect_ratio(stack, ended, size, expected):
    room = "shape-%dx%d" % size
    async with Viewer(stack, room) as viewer:
        _, participant = await publish(stack, ended, room, size=size)
        assert [layer[:3] for layer in layers(participant)] == expected
        await viewer.wait_size(*expected[-1][1:])


async def test_an_odd_size_and_vp8(stack, ended):
    """Sorenson H.263, which allows odd sizes: 333x187 is encoded as 320x180 and 334x188."""
    async with Viewer(stack, "odd") as viewer:
        info, participant = await publish(stack, ended, "odd", size=(333, 187), extra=["-c:v", "flv", "-vf", "scale=333:187"])
        assert [layer[:3] for layer in layers(participant)] == [("LOW", 320, 180), ("MEDIUM", 334, 188)]
        await viewer.wait_size(334, 188)
    state = await stack.wait_state(info.ingress_id, "PUBLISHING")
    assert (state.video.mime_type, state.video.width, state.video.height) == ("video/x-flash-video", 333, 187)


async def test_custom_options(stack, ended):
    """VP8 in two layers of our own at 15 pictures a second, mono sound, names and sources of the tracks."""
    video = pb.IngressVideoOptions(
        name="slides",
        source=models.TrackSource.SCREEN_SHARE,
        options=pb.IngressVideoEncodingOptions(
            video_codec=models.VideoCodec.VP8,
            frame_rate=15,
            layers=[
                models.VideoLayer(quality=models.VideoQuality.LOW, width=240, height=136, bitrate=150_000),
                models.VideoLayer(quality=models.VideoQuality.HIGH, width=480, height=270, bitrate=600_000),
            ],
        ),
    )
    audio = pb.IngressAudioOptions(
        name="talk",
        source=models.TrackSource.SCREEN_SHARE_AUDIO,
        options=pb.IngressAudioEncodingOptions(audio_codec=models.AudioCodec.OPUS, bitrate=48_000, channels=1, disable_dtx=True),
    )
    async with Viewer(stack, "custom") as viewer:
        _, participant = await publish(stack, ended, "custom", options=dict(video=video, audio=audio))
        [shown], [heard] = tracks(participant, VIDEO), tracks(participant, AUDIO)
        assert shown.mime_type.lower() == "video/vp8"
        assert (shown.name, shown.source) == ("slides", models.TrackSource.SCREEN_SHARE)
        assert layers(participant) == [("LOW", 240, 136, 150_000), ("HIGH", 480, 270, 600_000)]
        assert (heard.name, heard.source, heard.stereo) == ("talk", models.TrackSource.SCREEN_SHARE_AUDIO, False)
        await viewer.wait_size(480, 270)
        await viewer.wait_sound()
        await asyncio.sleep(2)  # what a jitter buffer hands out at once in the beginning is over
        first = len(viewer.frames)
        await asyncio.sleep(3)
        # 45 at 15 a second, and not the source's 90; the rest is room for a machine that stumbles.
        assert 15 < len(viewer.frames) - first < 60


async def test_mono_preset(stack, ended):
    options = dict(audio=pb.IngressAudioOptions(preset=pb.IngressAudioEncodingPreset.OPUS_MONO_64KBS))
    _, participant = await publish(stack, ended, "mono", size=(320, 180), options=options)
    [track] = tracks(participant, AUDIO)
    assert not track.stereo


async def test_audio_only(stack, ended):
    async with Viewer(stack, "sound") as viewer:
        info, participant = await publish(stack, ended, "sound", video=False, count=1)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        await viewer.wait_sound()
        assert not tracks(participant, VIDEO) and not state.video.mime_type
        assert state.audio.mime_type == "audio/aac"


async def test_video_only(stack, ended):
    async with Viewer(stack, "picture") as viewer:
        info, participant = await publish(stack, ended, "picture", size=(640, 360), audio=False, count=1)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        await viewer.wait_size(640, 360)
        assert not tracks(participant, AUDIO) and not state.audio.mime_type
        assert state.video.mime_type == "video/H264"


async def test_mp3_audio(stack, ended):
    async with Viewer(stack, "mp3") as viewer:
        info, _ = await publish(stack, ended, "mp3", size=(320, 180), extra=["-c:a", "libmp3lame", "-ar", "44100"])
        await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert (state.audio.mime_type, state.audio.sample_rate) == ("audio/mpeg", 44100)


async def test_b_frames(stack, ended):
    """B-frames, as OBS sends by default with x264: shown in the right order."""
    info = await stack.create("reordered")
    async with Viewer(stack, "reordered") as viewer:
        coding = [*h264(30), "-tune", "film", "-bf", "2", "-preset", "veryfast"]
        source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "reordered.log", size=(640, 360), coding=coding).start()
        try:
            await viewer.wait_size(640, 360)
            await viewer.wait("60 numbered frames", lambda v: sum(f.number is not None for f in v.frames) > 60)
        finally:
            await source.stop()
        numbers = [f.number for f in viewer.frames if f.number is not None][5:]
        assert numbers == sorted(numbers)
