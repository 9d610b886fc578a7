"""A pushed RTMP stream is seen in a LiveKit room: one session's whole life, told by all who see it."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.protocol import models

from rig import Push, Source, Viewer, status_name

ROOM = "life"
TERMINAL = {"INACTIVE", "ERROR", "COMPLETE"}


async def live(stack, webhooks):
    """One push of 720p30 with stereo sound, watched in every layer, then ended by the encoder."""
    seen = SimpleNamespace(sizes={})
    seen.info = await stack.create(ROOM, participant_name="Ada", participant_metadata='{"seat":7}')
    async with Viewer(stack, ROOM) as viewer:
        source = Source(f"{stack.rtmp_url}/{seen.info.stream_key}", stack.dir / "life-source.log").start()
        try:
            await viewer.wait_size(1280, 720)
            await viewer.wait_sound()
            await viewer.wait("active speaker", lambda v: v.speakers)
            seen.speakers = set(viewer.speakers)
            seen.state = await stack.wait_state(seen.info.ingress_id, "PUBLISHING")
            seen.participant = await stack.wait_participant(ROOM, f"{ROOM}-pub", tracks=2)
            for quality, size in (("LOW", (320, 180)), ("MEDIUM", (640, 360)), ("HIGH", (1280, 720))):
                await viewer.ask(quality)
                await viewer.wait_size(*size)
                before = len(viewer.frames)
                await viewer.wait("25 frames more", lambda v: len(v.frames) >= before + 25)
                seen.sizes[quality] = viewer.frames[before:]
            seen.sent, seen.publishers = dict(source.sent), viewer.publishers
        finally:
            await source.stop()
        seen.final = await stack.wait_state(seen.info.ingress_id, "INACTIVE")
        await stack.wait_participant(ROOM, f"{ROOM}-pub", here=False)
    await asyncio.sleep(1)  # for a report or a webhook too many, which nothing announces
    return seen


@pytest.fixture(scope="module")
def life(stack, webhooks, reports):
    return asyncio.run(asyncio.wait_for(live(stack, webhooks), 80))


def test_states_in_order_and_one_end(life, reports):
    heard = reports.of(life.info.ingress_id)
    assert reports.statuses(life.info.ingress_id) == ["BUFFERING", "PUBLISHING", "INACTIVE"]
    assert [r.status for r in heard if r.status in TERMINAL] == ["INACTIVE"]
    assert all(r.error == "" for r in heard)


def test_webhooks_come_exactly_once(life, webhooks):
    assert webhooks.of(life.info.ingress_id) == ["ingress_started", "ingress_ended"]


def test_the_state_describes_the_input(life):
    video, audio = life.state.video, life.state.audio
    assert (video.mime_type, video.width, video.height, round(video.framerate)) == ("video/H264", 1280, 720, 30)
    assert (audio.mime_type, audio.channels, audio.sample_rate) == ("audio/aac", 2, 48000)


def test_the_state_names_times_and_room(life):
    state, final = life.state, life.final
    assert state.resource_id.startswith("RT_") and len(state.resource_id) == 15
    assert final.resource_id == state.resource_id
    assert final.room_id.startswith("RM_")
    assert not state.ended_at
    assert 0 < state.started_at == final.started_at <= state.updated_at <= final.ended_at <= final.updated_at
    assert abs(time.time_ns() - final.ended_at) < 300e9, "times are Unix nanoseconds"


def test_the_participant_is_an_active_speaker(life):
    assert life.speakers == {f"{ROOM}-pub"}


def test_the_participant_is_an_ingress(life):
    p = life.participant
    assert p.kind == models.ParticipantInfo.Kind.INGRESS
    assert (p.identity, p.name, p.metadata) == (f"{ROOM}-pub", "Ada", '{"seat":7}')
    assert p.attributes["ingress.ingressID"] == life.info.ingress_id
    assert p.attributes["ingress.resourceID"] == life.state.resource_id
    assert life.publishers == {f"{ROOM}-pub"}


def test_the_video_track_has_three_layers(life):
    [track] = [t for t in life.participant.tracks if t.type == models.TrackType.VIDEO]
    assert track.source == models.TrackSource.CAMERA
    assert track.mime_type.lower() == "video/h264"
    assert track.simulcast
    layers = {models.VideoQuality.Name(layer.quality): (layer.width, layer.height, layer.bitrate) for layer in track.layers}
    assert layers == {"LOW": (320, 180, 237500), "MEDIUM": (640, 360, 671751), "HIGH": (1280, 720, 1900000)}


def test_the_audio_track_is_a_stereo_microphone(life):
    [track] = [t for t in life.participant.tracks if t.type == models.TrackType.AUDIO]
    assert track.source == models.TrackSource.MICROPHONE
    # Opus with redundancy, as browsers publish it; a viewer that takes none gets it from the SFU without.
    assert track.mime_type.lower() == "audio/red"
    assert track.stereo


@pytest.mark.parametrize("quality,size", [("LOW", (320, 180)), ("MEDIUM", (640, 360)), ("HIGH", (1280, 720))])
def test_a_viewer_gets_the_layer_it_asks_for(life, quality, size):
    frames = life.sizes[quality]
    assert {f[2:] for f in frames} == {size}
    # They move: nearly each is another picture of the source, in the source's order.
    numbers = [f.number for f in frames if f.number is not None]
    assert len(set(numbers)) >= 20, numbers
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(life.sent)


async def test_parallel_sessions_do_not_mix(stack, ended):
    """Two encoders, one wide and one tall, in two rooms: each viewer sees its own alone."""
    rooms = {"wide": (640, 360), "tall": (360, 640)}
    for room, size in rooms.items():
        info = await stack.create(room)
        ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push-{room}", size=size))
    async with Viewer(stack, "wide", "v-wide") as wide, Viewer(stack, "tall", "v-tall") as tall:
        await wide.wait_size(640, 360)
        await tall.wait_size(360, 640)
        await wide.wait_sound()
        await tall.wait_sound()
        assert wide.publishers == {"wide-pub"} and tall.publishers == {"tall-pub"}
        assert all(f.width > f.height for f in wide.frames)
        assert all(f.width < f.height for f in tall.frames)


async def test_a_key_can_be_used_again(stack, reports, ended):
    info = await stack.create("again")
    for turn in range(2):
        push = ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push-again{turn}", size=(320, 180)))
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        push.hang_up()
        await stack.wait_state(info.ingress_id, "INACTIVE")
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "INACTIVE"] * 2
    assert len({r.state.resource_id for r in reports.of(info.ingress_id)}) == 2


async def test_a_killed_encoder_ends_its_session(stack, reports, ended):
    """Killed, so that there is no goodbye: the connection just closes."""
    info = await stack.create("cut")
    push = ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="push-cut", size=(320, 180)))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    push.kill()
    state = await stack.wait_state(info.ingress_id, "INACTIVE")
    assert state.ended_at
    await stack.wait_participant("cut", "cut-pub", here=False)


async def test_one_viewer_leaves_and_another_comes(stack, ended):
    """Encoders may sleep while nobody watches; the next viewer still gets a picture."""
    info = await stack.create("sleepy")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="push-sleepy", size=(640, 360)))
    for name in ("first", "second"):
        async with Viewer(stack, "sleepy", name) as viewer:
            await viewer.wait_size(640, 360)
            assert viewer.video.kind == rtc.TrackKind.KIND_VIDEO
        # Longer than livekit-server waits before it tells a publisher that a layer is not wanted any more (5 s, measured).
        await asyncio.sleep(7 if name == "first" else 0)
    assert status_name((await stack.info(info.ingress_id)).state) == "PUBLISHING"
