"""RTMP streams of which a part is odd, from public reports: a track that nobody can decode, a configuration that is none, several streams on
one connection, metadata that promises too much, timestamps that stand still or lie below zero. What is good of each is played, with numbered
pictures seen and a tone heard, and what is not is said."""

import asyncio
import os
import struct

import pytest
from test_odd_encoders import in_band, pictures

from rig import Feeder, Viewer, flv, numbered_clip, wait_for
from rig.media import AAC, QUIET, h264
from rig.rtmp import RtmpClient, amf
from rig.together import at_once

SECONDS = 14  # longer than anything here takes
RATE = 15
UNKNOWN = "is left out: it cannot be decoded here"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return flv.read(numbered_clip(tmp_path_factory.mktemp("films") / "film.flv", SECONDS, fps=RATE, coding=h264(RATE)))


def silent(film):
    return [tag for tag in film if tag.kind != flv.AUDIO]


def unknown(kind, body):
    """All messages of one kind as of a codec that nobody knows: this beginning in place of theirs."""
    return lambda film: [tag._replace(body=body + tag.body[1:]) if tag.kind == kind else tag for tag in film]


def config_first(kind, *bodies):
    """These bodies before everything else of the kind."""
    def change(film):
        [config] = [tag for tag in film if flv.is_config(tag) and tag.kind == kind]
        at = film.index(config)
        return [*film[:at], *(config._replace(body=body) for body in bodies), *film[at:]]

    return change


def spoilt_config_alone(film):
    """A configuration of one byte, and parameter sets with the pictures."""
    [config] = [tag for tag in film if flv.is_config(tag) and tag.kind == flv.VIDEO]
    return [config._replace(body=b"\x17\0\0\0\0\1"), *in_band(film)]


def metadata(**of):
    return flv.Tag(flv.DATA, 0, amf("@setDataFrame") + amf("onMetaData") + amf(of))


async def steps_aside(playing):
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)


async def error_of(stack, info, text, seconds=15):
    """Waits until the state says so, while PUBLISHING."""
    async with asyncio.timeout(seconds):
        while text not in (state := (await stack.info(info.ingress_id)).state).error:
            await asyncio.sleep(0.2)
    assert state.status == state.ENDPOINT_PUBLISHING, state


async def played(stack, room, tags, video=True, audio=True, said="", **how):
    """Plays tags; numbered pictures have to be seen and the tone heard, and the state says `said`, or nothing."""
    info = await stack.create(room)
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags, **how))
        try:
            if video:
                await viewer.wait_numbers(25)
            if audio:
                await viewer.wait_tone(330)
            await stack.wait_state(info.ingress_id, "PUBLISHING")
            if said:
                await error_of(stack, info, said)
            else:
                assert (await stack.info(info.ingress_id)).state.error == ""
            assert not playing.done() or not playing.exception()
        finally:
            await steps_aside(playing)


@pytest.mark.words(UNKNOWN)
async def test_a_codec_that_nobody_knows_does_not_end_the_other_track(stack, film):
    """13 is Opus to some servers; the FourCC is made up."""
    number, fourcc = unknown(flv.AUDIO, b"\xdf"), unknown(flv.AUDIO, b"\x91abcd")
    picture = unknown(flv.VIDEO, b"\x1d")
    await at_once(
        played(stack, "codec-13", number(film), audio=False, said=f"unknown audio codec number 13 {UNKNOWN}"),
        played(stack, "codec-abcd", fourcc(film), audio=False, said=f'unknown audio codec "abcd" {UNKNOWN}'),
        played(stack, "codec-video", picture(film), video=False, said=f"unknown video codec number 13 {UNKNOWN}"),
    )


async def test_configurations_that_are_none_are_ignored(stack, film):
    """Configurations of one byte, of version 0 and of an object type that does not exist, before the real ones and in their place."""
    [avcc] = [tag.body for tag in film if flv.is_config(tag) and tag.kind == flv.VIDEO]
    version_0 = avcc[:5] + b"\0" + avcc[6:]
    await at_once(
        played(stack, "avcc", config_first(flv.VIDEO, b"\x17\0\0\0\0\1", version_0)(film)),
        played(stack, "avcc-in-band", spoilt_config_alone(film)),
        played(stack, "asc", config_first(flv.AUDIO, b"\xaf\0\0\0")(film)),
        played(stack, "empty", config_first(flv.VIDEO, b"\x17\0\0\0\0")(config_first(flv.AUDIO, b"\xaf\0")(film))),
    )
    stack.ingress.wait_log("malformed H.264 configuration")
    stack.ingress.wait_log("malformed AAC configuration")


class SeveralStreams(Feeder):
    """Flash Media Live Encoder with several bit rates: all of them on one connection, each a stream of its own."""

    def _publish(self):
        self.client = RtmpClient(self.port)
        self.client.connect()
        self.client.set_chunk_size(4096)
        self.streams = []
        for number in range(3):
            self.client.command("createStream", 2 + number, None)
            self.streams.append(int(self.client.answer("_result")[3]))
        # Without waiting for answers in between.
        for number, stream in enumerate(self.streams):
            self.client.command("publish", 0, None, self.key if number == 0 else f"{self.key}{number}", "live", stream=stream)
        self.codes = sorted(self.client.answer("onStatus")[3]["code"] for _ in self.streams)
        self.stream = self.streams[0]

    async def send(self, kind, body, at):
        """On all streams; what goes on the others is no picture that could be read."""
        for stream in self.streams:
            spoilt = body if stream == self.stream else body[:9] + bytes(len(body[9:]))
            await asyncio.to_thread(self.client.send, kind, spoilt, stream, 6, int(at))


async def test_of_several_bit_rates_the_first_is_taken(stack, film):
    info = await stack.create("several")
    async with Viewer(stack, "several") as viewer, SeveralStreams(stack, info.stream_key) as feeder:
        assert feeder.codes == ["NetStream.Publish.BadName", "NetStream.Publish.BadName", "NetStream.Publish.Start"], feeder.codes
        playing = asyncio.create_task(feeder.play(film))
        try:
            await viewer.wait_numbers(25)
            await viewer.wait_tone(330)
            # The others end, and the first goes on.
            for stream in feeder.streams[1:]:
                feeder.client.command("deleteStream", 0, None, stream)
            seen = len(viewer.frames)
            await viewer.wait("more pictures", lambda v: len(v.frames) > seen + 2 * RATE)
            feeder.client.command("deleteStream", 0, None, feeder.stream)
            await stack.wait_state(info.ingress_id, "INACTIVE")
        finally:
            await steps_aside(playing)
    stack.ingress.wait_log("one connection publishes one stream")


async def test_metadata_that_names_no_codec_announces_nothing(stack, film):
    """Relays write `audiocodecid: 0` for a stream without sound. Nothing waits for it, and nothing is missed."""
    tags = [metadata(videocodecid=7, audiocodecid=0), *(t for t in silent(film) if t.kind != flv.DATA)]
    info = await stack.create("codec-0")
    async with Viewer(stack, "codec-0") as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags))
        try:
            # A track that is announced is missed after five seconds.
            await viewer.wait_numbers(7 * RATE)
            assert (await stack.info(info.ingress_id)).state.error == ""
        finally:
            await steps_aside(playing)


STILL = "timestamps stand still"


@pytest.mark.words(STILL)
async def test_timestamps_that_stand_still(stack, film):
    """Pictures and sound are shown as they come; one track of two, or both."""
    await at_once(
        moving(stack, "still", film, stamp=lambda t: 0),
        moving(stack, "still-later", film, stamp=lambda t: min(t, 1000)),
    )


async def moving(stack, room, tags, **how):
    """Plays tags; pictures have to be seen at their pace, and the tone heard; the state says why they are shown so."""
    info = await stack.create(room)
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key) as feeder:
        playing = asyncio.create_task(feeder.play(tags, **how))
        try:
            await error_of(stack, info, STILL)
            start = len(viewer.frames)
            await viewer.wait("pictures", lambda v: len(v.frames) >= start + 45)
            await viewer.wait_tone(330)
            frames = viewer.frames[start : start + 45]
            numbers = [f.number for f in frames if f.number is not None]
            assert numbers == sorted(numbers) and len(set(numbers)) >= 40, numbers
            gaps = [b.at - a.at for a, b in zip(frames, frames[1:])]
            assert max(gaps) < 0.5, gaps
        finally:
            await steps_aside(playing)


async def test_sound_first_and_pictures_a_second_apart(stack, film):
    """Cameras: sound is heard at once, pictures begin later, with timestamps that lie a second beside those of the sound."""
    sound = [tag for tag in film if tag.kind == flv.AUDIO]
    video = [tag._replace(time=max(tag.time, 2000)) for tag in film if tag.kind == flv.VIDEO and (flv.is_config(tag) or tag.time >= 2000)]

    async def joined(by):
        info = await stack.create(f"apart-{by}")
        async with Viewer(stack, f"apart-{by}") as viewer, Feeder(stack, info.stream_key) as feeder:
            playing = asyncio.gather(feeder.play(sound), feeder.play(video, number=2 * RATE, stamp=lambda t: t + by))
            try:
                await viewer.wait_tone(330)
                await viewer.wait_numbers(25)
                await viewer.wait_tone(330)
                assert (await stack.info(info.ingress_id)).state.error == ""
            finally:
                await steps_aside(playing)

    await at_once(joined(1000), joined(-1000))


async def test_timestamps_below_zero(stack, film):
    """Drones begin below zero, in the extended field; and pass through it."""
    await played(stack, "negative", film, stamp=lambda t: t - 1500)


async def test_mpegts_is_told(stack, ended):
    """`-f mpegts` where FLV belongs: the encoder hears what to change."""
    info = await stack.create("mpegts")
    media = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-c:v", "libx264", "-preset", "ultrafast", "-g", "15"]
    ended(stack.program("mpegts", [*QUIET, *media, "-t", "20", "-f", "mpegts", f"{stack.rtmp_url}/{info.stream_key}"]))
    state = await stack.wait_state(info.ingress_id, "ERROR", seconds=25)
    assert "MPEG-TS" in state.error and "-f flv" in state.error, state.error
