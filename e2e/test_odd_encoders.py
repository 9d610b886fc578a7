"""What encoders send that is not as the book says, from public reports: each is played right, with numbered pictures seen and a tone heard."""

import asyncio
import math
import random

import pytest

from rig import Feeder, Viewer, flv, numbered_clip
from rig.media import AAC, h264
from rig.rtmp import amf

SECONDS = 6
SEI, SPS, PPS = 6, 7, 8


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """The tags of a clip, by how its pictures are coded: `plain`, `slices` (four a picture), `refresh` (intra refresh, no IDR but the first)."""
    directory = tmp_path_factory.mktemp("films")
    coding = {
        "plain": h264(30),
        "slices": [*h264(30), "-x264-params", "slices=4:sliced-threads=0"],
        "refresh": [*h264(30), "-x264-params", "intra-refresh=1:keyint=45:bframes=0"],
    }
    return {name: flv.read(numbered_clip(directory / f"{name}.flv", SECONDS, coding=options)) for name, options in coding.items()}


def put(tag, found):
    """The tag with these NAL units in place of its own."""
    return tag._replace(body=tag.body[:5] + b"".join(len(u).to_bytes(4, "big") + u for u in found))


def pictures(tags, change):
    """All tags; those of pictures as `change` gives them (one or several)."""
    for tag in tags:
        yield from change(tag) if flv.is_picture(tag) else [tag]


def sliced(tag):
    """Each slice in a message of its own; what comes before the first goes with it."""
    groups, pending = [], []
    for unit in flv.units(tag):
        pending.append(unit)
        if unit[0] & 0x1F in (1, 5):
            groups.append(pending)
            pending = []
    assert len(groups) == 4
    return [put(tag, group) for group in groups]


def empties(tag):
    found = flv.units(tag)
    return [put(tag, [b"", *found, b""])]


def flagged(kind):
    return lambda tag: [tag._replace(body=bytes([kind << 4 | tag.body[0] & 0xF]) + tag.body[1:])]


def without(*kinds):
    return lambda tag: [put(tag, [u for u in flv.units(tag) if u[0] & 0x1F not in kinds])]


def annex_b(tag):
    return [tag._replace(body=tag.body[:5] + b"".join(b"\0\0\0\1" + u for u in flv.units(tag)))]


def joined_late(tags, first):
    """Without the pictures before the one with this number, and the sound before it."""
    number, begun = -1, None
    for tag in tags:
        number += flv.is_picture(tag)
        if flv.is_config(tag) or tag.kind == flv.DATA:
            yield tag
        elif number >= first:
            begun = tag.time if begun is None else begun
            yield tag._replace(time=max(0, tag.time - begun))


def adts(tags):
    """No configuration of the sound; each packet has a header that stands for it (AAC-LC, 48 kHz, stereo)."""
    for tag in tags:
        if tag.kind != flv.AUDIO:
            yield tag
        elif not flv.is_config(tag):
            size = len(tag.body) - 2 + 7
            header = bytes([0xFF, 0xF1, 1 << 6 | 3 << 2, 2 << 6 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC])
            yield tag._replace(body=tag.body[:2] + header + tag.body[2:])


def in_band(tags):
    """No configuration of the video; parameter sets come before each key frame, in Annex B."""
    [config] = [t for t in tags if flv.is_config(t) and t.kind == flv.VIDEO]
    sps, pps = flv.parameter_sets(config)

    def change(tag):
        sets = [sps, pps] if flv.is_key(tag) else []
        return annex_b(put(tag, [*sets, *(u for u in flv.units(tag) if u[0] & 0x1F not in (SPS, PPS))]))

    return pictures([t for t in tags if t is not config], change)


def annex_b_record(tags):
    """A configuration that is parameter sets behind start codes."""
    for tag in tags:
        if flv.is_config(tag) and tag.kind == flv.VIDEO:
            sps, pps = flv.parameter_sets(tag)
            tag = tag._replace(body=tag.body[:5] + b"\0\0\0\1" + sps + b"\0\0\0\1" + pps)
        yield tag


def much_metadata(tags):
    """Metadata like that of a recorded film: the index of its key frames, 200 kB."""
    index = {"keyframes": {"times": [n / 2 for n in range(11_000)], "filepositions": [n * 1000 for n in range(11_000)]}}
    yield flv.Tag(flv.DATA, 0, amf("@setDataFrame") + amf("onMetaData") + amf(index))
    yield from tags


ODDITIES = {
    "a message for each slice": ("slices", lambda tags: pictures(tags, sliced)),
    "empty NAL units": ("plain", lambda tags: pictures(tags, empties)),
    "key frames not marked": ("plain", lambda tags: pictures(tags, flagged(2))),
    "every frame marked as key": ("plain", lambda tags: pictures(tags, flagged(1))),
    "intra refresh joined late": ("refresh", lambda tags: joined_late(tags, 20)),
    "Annex B": ("plain", lambda tags: pictures(tags, annex_b)),
    "Annex B without configuration": ("plain", in_band),
    "Annex B as configuration": ("plain", annex_b_record),
    "ADTS without configuration": ("plain", adts),
    "metadata of 200 kB": ("plain", much_metadata),
}


async def played(stack, room, tags, key=lambda key: key):
    """Plays tags; pictures have to be seen with their numbers, nine of ten of them readable, and the tone heard."""
    info = await stack.create(room)
    async with Viewer(stack, room) as viewer, Feeder(stack, key(info.stream_key)) as feeder:
        playing = asyncio.create_task(feeder.play(tags))
        try:
            await viewer.wait_numbers(45)
            await viewer.wait_tone(330)
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            late = viewer.frames[len(viewer.frames) // 2 :]
            readable = sum(f.number is not None for f in late)
            assert readable >= math.ceil(0.9 * len(late)), (readable, len(late))
            numbers = [f.number for f in late if f.number is not None]
            assert numbers == sorted(numbers), numbers
            return state
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


@pytest.mark.parametrize("oddity", ODDITIES)
async def test_oddities_are_played(stack, films, oddity):
    film, change = ODDITIES[oddity]
    tags = list(change(films[film]))
    assert tags != films[film]
    await played(stack, oddity.replace(" ", "-"), tags)


async def test_intra_refresh_without_marks_is_played_and_said(stack, films):
    """Nothing in the stream says where decoding can begin: it begins anywhere after a second, and the log says so."""
    tags = list(pictures(joined_late(films["refresh"], 20), without(SEI)))
    await played(stack, "unmarked", tags)
    stack.ingress.wait_log("the video has no key frame")


@pytest.mark.parametrize("paste", ["live%2F{}", " {}\n", "{}?token=a/b", "live/{}?a=b"])
async def test_keys_as_people_paste_them(stack, films, paste):
    await played(stack, f"paste-{ODD_NAMES[paste]}", films["plain"], key=paste.format)


ODD_NAMES = {"live%2F{}": "encoded", " {}\n": "blanks", "{}?token=a/b": "query", "live/{}?a=b": "path"}


def with_a_slice_lost(tag):
    """The second of its four slices is gone: in every picture, so that no key frame mends it."""
    found = flv.units(tag)
    slices = [i for i, unit in enumerate(found) if unit[0] & 0x1F in (1, 5)]
    return [put(tag, [u for i, u in enumerate(found) if i != slices[1]])]


def with_noise(tags):
    """Packets of sound that begin like sound, and go on as noise; all but the first twenty."""
    seen = 0
    for tag in tags:
        if tag.kind == flv.AUDIO and not flv.is_config(tag):
            seen += 1
            if seen > 20:
                noise = random.Random(seen).randbytes(len(tag.body) - 4)
                tag = tag._replace(body=tag.body[:4] + noise)
        yield tag


DAMAGES = {
    "video": ("slices", lambda tags: pictures(tags, with_a_slice_lost)),
    "audio": ("plain", with_noise),
}


@pytest.mark.words("video comes damaged", "audio comes damaged")
@pytest.mark.parametrize("kind", DAMAGES)
async def test_damage_is_said(stack, films, kind):
    """Pictures or sound that come out damaged: log and state say so while the session goes on, and the encoder is told."""
    film, change = DAMAGES[kind]
    tags = list(change(films[film]))
    length = tags[-1].time + 40
    later = [tag._replace(time=tag.time + length) for tag in tags if not flv.is_config(tag)]
    info = await stack.create(f"damaged-{kind}")
    async with Viewer(stack, f"damaged-{kind}"), Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play([*tags, *later]))
        try:
            async with asyncio.timeout(20):
                while f"{kind} comes damaged" not in (state := (await stack.info(info.ingress_id)).state).error:
                    await asyncio.sleep(0.2)
            assert state.status == state.ENDPOINT_PUBLISHING
            stack.ingress.wait_log("much of the source comes damaged")
            status = await asyncio.to_thread(feeder.status)
            assert (status["level"], status["code"]) == ("warning", "NetStream.Publish.Degraded")
            assert f"{kind} comes damaged" in status["description"]
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


@pytest.mark.words("video has stopped")
async def test_a_track_that_stops_is_said(stack, films):
    """Pictures stop while sound goes on, and come back: log and state say so, the state stays PUBLISHING, and nothing else suffers."""
    film = films["plain"]
    length = film[-1].time + 40
    later = lambda tags, ms: [tag._replace(time=tag.time + ms) for tag in tags if not flv.is_config(tag)]
    sound = [tag for tag in film if tag.kind == flv.AUDIO]
    tags = [*film, *later(sound, length), *later(sound, 2 * length), *later(film, 3 * length)]
    info = await stack.create("stops")
    async with Viewer(stack, "stops") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags))
        try:
            await viewer.wait_numbers(45)
            async with asyncio.timeout(20):
                while "video has stopped" not in (state := (await stack.info(info.ingress_id)).state).error:
                    await asyncio.sleep(0.2)
            assert state.status == state.ENDPOINT_PUBLISHING
            stack.ingress.wait_log("video has stopped")
            seen = len(viewer.frames)
            await viewer.wait("pictures again", lambda v: len(v.frames) > seen + 60)
            async with asyncio.timeout(10):
                while (state := (await stack.info(info.ingress_id)).state).error:
                    await asyncio.sleep(0.2)
            assert state.status == state.ENDPOINT_PUBLISHING
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
