"""Every source: what encoders send differs in profile, rate, size, sound, and in how its clock behaves. The room sees a picture
whose numbers rise and hears the tone all the same."""

import asyncio
import time
from fractions import Fraction
from pathlib import Path

import pytest

from conftest import run
from rig import Feeder, Push, Source, Stack, Viewer, flv, numbered_clip
from rig.media import h264

DATA = Path(__file__).with_name("data")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips by name, made when first asked for: `clips("film", 4, …)` gives the tags of four seconds of numbered pictures."""
    made, directory = {}, tmp_path_factory.mktemp("clips")

    def clip(name, seconds, **how):
        if name not in made:
            made[name] = flv.read(numbered_clip(directory / f"{name}.flv", seconds, **how))
        return made[name]

    return clip


async def created(stack, rooms):
    """An ingress for each room, one after the other: livekit-server loses some of those that are created at once."""
    return {room: await stack.create(room) for room in rooms}


async def watched(stack, room, check, info=None, size=(320, 180), **source):
    """Pushes numbered pictures of this kind, waits for PUBLISHING and gives viewer and ingress to `check`."""
    info = info or await stack.create(room)
    async with Viewer(stack, room) as viewer:
        encoder = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / f"{room}.log", size=size, **source).start()
        try:
            await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
            await check(viewer, info)
        finally:
            await encoder.stop()


def x264(profile, fps=30, *more):
    return ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", profile, "-pix_fmt", "yuv420p", "-g", str(2 * fps), "-b:v", "500k", *more]


@pytest.mark.core
async def test_profiles(stack):
    """Baseline; main and high with pictures that are shown in another order than sent; high in several slices. All at once."""
    codings = {
        "baseline": x264("baseline"),
        "main": x264("main", 30, "-bf", "2"),
        "high": x264("high", 30, "-bf", "3", "-b-pyramid", "normal"),
        "slices": x264("high", 30, "-x264-params", "sliced-threads=1:slices=4"),
    }

    async def check(viewer, _):
        await viewer.wait_numbers(40)
        await viewer.wait_tone(330)

    rooms = {f"profile-{name}": coding for name, coding in codings.items()}
    keys = await created(stack, rooms)
    await asyncio.gather(*(watched(stack, room, check, info=keys[room], coding=coding) for room, coding in rooms.items()))


@pytest.mark.core
@pytest.mark.parametrize("rates", [["24", "25", "30000/1001"], ["30", "50", "60"]], ids="-".join)
async def test_rates(stack, rates):
    """Up to the preset's 30 a second all are seen; what is above is left out evenly. The stored state tells the source's rate."""

    async def watch(room, fps):
        async def check(viewer, info):
            numbers = await viewer.wait_numbers(45)
            shown = len(set(numbers)) / (numbers[-1] - numbers[0] + 1)
            assert shown > 0.7 if fps <= 30 else shown < float(30 / fps) * 1.1, (fps, numbers)
            end = time.monotonic() + 10
            while abs((rate := (await stack.info(info.ingress_id)).state.video.framerate) - float(fps)) > float(fps) * 0.1:
                assert time.monotonic() < end, f"{rate} for {fps}"
                await asyncio.sleep(0.1)

        await watched(stack, room, check, info=keys[room], fps=fps)

    rooms = {f"rate-{round(float(fps) * 100)}": fps for fps in map(Fraction, rates)}
    keys = await created(stack, rooms)
    await asyncio.gather(*(watch(room, fps) for room, fps in rooms.items()))


@pytest.mark.parametrize(
    "size,fps,shown",
    [
        ((320, 180), 30, (320, 180)),
        ((1920, 1080), 10, (1280, 720)),
        ((3840, 2160), 5, (1280, 720)),
        ((1080, 1920), 10, (406, 720)),
        ((642, 362), 15, (642, 362)),  # even, yet no whole number of blocks
    ],
    ids=["320x180", "1920x1080", "4K", "portrait", "642x362"],
)
async def test_sizes(stack, size, fps, shown):
    async def check(viewer, info):
        await viewer.wait_size(*shown)
        await viewer.wait_numbers(2 * fps)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert (state.video.width, state.video.height) == size

    coding = [*h264(fps, "4M"), "-threads", "2"]
    await watched(stack, "size-%dx%d" % size, check, size=size, fps=fps, coding=coding)


async def test_a_size_below_a_macroblock(stack, ended):
    """H.264 with whole chroma, as some screen capturers send it: sides may be odd."""
    info = await stack.create("odd444")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="odd444", size=(333, 187), extra=["-vf", "scale=333:187,setsar=1,format=yuv444p", "-pix_fmt", "yuv444p"]))
    async with Viewer(stack, "odd444") as viewer:
        await viewer.wait_size(334, 188)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert (state.video.width, state.video.height) == (333, 187)


# Sound: options of ffmpeg for it, and what the stored state then says of it.
TONE = "sine=frequency=500:sample_rate={}"
SOUNDS = {
    "AAC": {
        "44100-stereo": (44100, ["-ac", "2", "-c:a", "aac"], ("audio/aac", 44100, 2)),
        "48000-mono": (48000, ["-ac", "1", "-c:a", "aac"], ("audio/aac", 48000, 1)),
        "5.1": (48000, ["-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0", "-c:a", "aac", "-b:a", "384k"], ("audio/aac", 48000, 6)),
        # Told as 22050 Hz in their configuration, and mono for version 2: what is above is in extensions that decoders find.
        "HE": ("he-aac-v1.flv", ["-c:a", "copy"], ("audio/aac", 44100, 2)),
        "HE-v2": ("he-aac-v2.flv", ["-c:a", "copy"], ("audio/aac", 44100, 2)),
    },
    "legacy": {
        "MP3": (44100, ["-ac", "2", "-c:a", "libmp3lame"], ("audio/mpeg", 44100, 2)),
        "MP3-low": (22050, ["-ac", "1", "-c:a", "libmp3lame"], ("audio/mpeg", 22050, 1)),
        "Speex": (16000, ["-ac", "1", "-c:a", "libspeex"], ("audio/x-speex", 16000, 1)),
        "Nellymoser": (22050, ["-ac", "1", "-c:a", "nellymoser"], ("audio/x-nellymoser", 22050, 1)),
        "ADPCM": (22050, ["-ac", "1", "-c:a", "adpcm_swf"], ("audio/x-adpcm", 22050, 1)),
        "PCM-16": (44100, ["-ac", "2", "-c:a", "pcm_s16le"], ("audio/x-raw", 44100, 2)),
        "PCM-8": (22050, ["-ac", "1", "-c:a", "pcm_u8"], ("audio/x-raw", 22050, 1)),
        "A-law": (8000, ["-ac", "1", "-c:a", "pcm_alaw"], ("audio/x-alaw", 8000, 1)),
        "mu-law": (8000, ["-ac", "1", "-c:a", "pcm_mulaw"], ("audio/x-mulaw", 8000, 1)),
    },
}


@pytest.mark.core
@pytest.mark.parametrize("family", SOUNDS)
async def test_audio_formats(stack, ended, family):
    """All of a family at once, each in a room of its own: sound alone costs little."""

    async def heard(name, source, coding, told):
        room = f"sound-{name}"
        info = infos[room]
        tone = ["-f", "lavfi", "-i", TONE.format(source) + ",volume=4"] if isinstance(source, int) else ["-stream_loop", "-1", "-i", DATA / source]
        push = Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=room, video=False, audio=False, extra=["-re", *tone, *coding])
        ended(push)
        async with Viewer(stack, room, f"viewer-{name}") as viewer:
            await viewer.wait_tone(500)
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert (state.audio.mime_type, state.audio.sample_rate, state.audio.channels) == told, name
            assert not state.video.mime_type

    infos = await created(stack, [f"sound-{name}" for name in SOUNDS[family]])
    await asyncio.gather(*(heard(name, *how) for name, how in SOUNDS[family].items()))


@pytest.mark.core
@pytest.mark.parametrize("codec", ["flashsv"])
async def test_screen_video(stack, codec):
    async def check(viewer, info):
        await viewer.wait_numbers(20)
        assert (await stack.info(info.ingress_id)).state.video.mime_type == "video/x-flash-screen"

    await watched(stack, codec, check, fps=10, coding=["-c:v", codec, "-g", "20"])


# Clocks and changes: a Feeder decides every timestamp.


async def fed(stack, room, feed, check, info=None):
    """Runs `feed(feeder)` as the encoder of a new room and `check(viewer, feeder, info)` as its viewer."""
    info = info or await stack.create(room)
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feed(feeder))
        try:
            await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
            await check(viewer, feeder, info)
            assert not playing.done() or not playing.exception(), playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


HOUR = 3_600_000
STAMPS = {
    "hours": lambda t: t + 30 * HOUR,
    "wrap": lambda t: t + 2**32 - 2_000,
    "24-bits": lambda t: t + 2**24 - 2_000,
    "forward": lambda t: t + (5 * HOUR if t >= 2_000 else 0),
    "backward": lambda t: t + (5 * HOUR if t < 2_000 else 0),
    "to-zero": lambda t: t + 700_000 if t < 2_000 else t - 2_000,
}


@pytest.mark.parametrize("some", [["hours", "wrap", "24-bits"], ["forward", "backward", "to-zero"]], ids="-".join)
async def test_timestamp_faults(stack, clips, some):
    """Nearly all of the pictures behind the jump are seen, in order, and sound goes on."""
    tags = clips("film", 7)

    async def check(viewer, feeder, _):
        await viewer.wait("the last pictures", lambda v: any(n >= 180 for n in v.numbers()))
        numbers = [n for n in viewer.numbers() if n >= 70]
        assert numbers == sorted(numbers)
        assert len(set(numbers)) > 70, numbers
        await viewer.wait_tone(330)

    infos = await created(stack, [f"stamps-{name}" for name in some])
    rooms = [fed(stack, f"stamps-{name}", lambda f, n=name: f.play(tags, stamp=STAMPS[n]), check, infos[f"stamps-{name}"]) for name in some]
    await asyncio.gather(*rooms)


async def test_variable_frame_rate(stack, clips):
    """Pictures 10 to 130 ms apart, as screen capture and phones send them."""
    steps, at, times = [10, 70, 33, 130, 20, 15, 60, 50], 0, {}
    for i in range(0, 400):
        times[i] = at
        at += steps[i % 8]
    # Without what announces sound, which does not come here.
    tags = [t for t in clips("film", 7) if t.kind == flv.VIDEO]

    def varied(t):
        return times[round(t * 30 / 1000)]

    async def check(viewer, feeder, _):
        numbers = await viewer.wait_numbers(70)
        assert len(set(numbers)) > 0.7 * (numbers[-1] - numbers[0])

    await fed(stack, "varying", lambda f: f.play(tags, stamp=varied, pace=varied), check)


@pytest.mark.parametrize("change", ["smaller", "larger", "profile"])
async def test_format_changes_mid_stream(stack, clips, change):
    """Another size, or another configuration of both codecs, without a new connection: the tracks stay and go on, and the upper
    layer grows with the source."""
    small, middle, large = dict(size=(320, 180)), dict(size=(640, 360)), dict(size=(1280, 720))
    first, second = {"smaller": (middle, small), "larger": (middle, large), "profile": (small, small)}[change]
    if change == "profile":
        first = dict(first, coding=x264("baseline"))
        sound = ["-ac", "1", "-ar", "44100", "-c:a", "aac"]
        second = dict(second, coding=x264("high", 30, "-bf", "2"), sound=sound)
    before = clips(f"{change}-before", 2.5, **first)
    after = clips(f"{change}-after", 4, first=1000, tone="sine=frequency=700:sample_rate=48000,volume=4", **second)
    after = [flv.Tag(t.kind, t.time + 2_500, t.body) for t in after if t.kind != flv.DATA]

    async def feed(feeder):
        await feeder.play(before + after)

    async def check(viewer, feeder, info):
        await viewer.wait_numbers(20)
        tracks = {t.sid for t in (await stack.wait_participant(f"change-{change}", f"change-{change}-pub", tracks=2)).tracks}
        if change == "larger":
            await viewer.wait_size(1280, 720)
        await viewer.wait_numbers(60, over=999)
        await viewer.wait_tone(700)
        assert {t.sid for t in (await stack.participant(f"change-{change}", f"change-{change}-pub")).tracks} == tracks
        shown = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert (shown.video.width, shown.video.height) == second["size"]

    await fed(stack, f"change-{change}", feed, check)


@pytest.mark.words("has stopped")
async def test_a_stall_leaves_no_delay(stack, clips):
    """Ten seconds in which nothing comes, then all of it at once, as TCP does it: two seconds later the delay is below 500 ms."""
    tags = clips("long", 17)

    def pace(t):
        return 12_500 if 2_500 <= t < 12_500 else t

    async def check(viewer, feeder, info):
        await viewer.wait("pictures behind the stall", lambda v: any(n >= 375 for n in v.numbers()))
        back = feeder.sent[375]  # the first picture that was made after it
        await viewer.wait("the end", lambda v: any(n >= 490 for n in v.numbers()))
        late = viewer.latencies(feeder.sent, back + 2)
        print(f"delay after the stall: median {sorted(late)[len(late) // 2]:.0f} ms, most {max(late):.0f} ms")
        assert len(late) > 30
        assert sorted(late)[len(late) * 9 // 10] < 500
        assert (await stack.info(info.ingress_id)).state.status == (await stack.wait_state(info.ingress_id, "PUBLISHING")).status

    await fed(stack, "stall", lambda f: f.play(tags, pace=pace), check)


async def test_clocks_with_drift(stack, clips):
    """Two parts in a hundred too fast or too slow, far beyond any crystal: pictures and sound still come, and the delay does not
    grow with it."""
    tags = clips("long", 17)

    async def check(viewer, feeder, info):
        await viewer.wait("ten seconds", lambda v: any(n >= 300 for n in v.numbers()))
        numbers = viewer.numbers()
        assert numbers == sorted(numbers)
        late = viewer.latencies(feeder.sent, feeder.sent[240])
        assert sorted(late)[len(late) // 2] < 1000, late
        # The pitch is the encoder's, and that is off by as much.
        await viewer.wait_tone(330)

    infos = await created(stack, ["clock+2", "clock-2"])
    rooms = [
        fed(stack, room, lambda f, p=percent: f.play(tags, stamp=lambda t: t * (100 + p) / 100), check, infos[room])
        for room, percent in (("clock+2", 2), ("clock-2", -2))
    ]
    await asyncio.gather(*rooms)


# livekit-server as it comes calls a layer stopped that brings fewer than five packets in half a second.


@pytest.fixture(scope="module")
def plain_stack():
    for s in run(Stack(patient=False)):
        yield s.start()


async def test_the_top_layer_stays(plain_stack, ended):
    """A film in three layers, for a viewer who asks for nothing: with the server's own congestion control, and its own judgement of layers,
    it gets the top one and keeps it."""
    stack = plain_stack
    info = await stack.create("top")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="top", fps=20))
    async with Viewer(stack, "top") as viewer:
        await viewer.wait_size(1280, 720)
        seen = len(viewer.frames)
        await viewer.wait("eight seconds", lambda v: len(v.frames) >= seen + 160)
        lower = sum(f.height < 720 for f in viewer.frames[seen:])
        assert lower == 0, f"{lower} pictures of a lower layer"


@pytest.mark.parametrize("fps", [5, 1])
async def test_slides_keep_their_layer(plain_stack, ended, fps):
    """A picture that hardly moves, a few times a second: viewers get it in full size, and not only in the first second."""
    stack, room = plain_stack, f"slides-{fps}"
    info = await stack.create(room)
    picture = ["-re", "-f", "lavfi", "-i", f"smptebars=size=1280x720:rate={fps}", *h264(fps, "1M")]
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=room, video=False, audio=False, extra=picture))
    async with Viewer(stack, room) as viewer:
        await viewer.wait_size(1280, 720)
        began = time.monotonic()
        # Two seconds and more in a row, none of them the first: those come before the server has counted.
        await viewer.wait("full size that lasts", lambda v: len(late := [f for f in v.frames if f.at > began + 2]) > 6 and all(f.height == 720 for f in late[-6:]))
