"""Publishing survives what happens to the SFU and on the way to it."""

import asyncio
import time

from rig import Push, Viewer


async def watched(stack, room, viewer, name="push"):
    """A small session into `room` that `viewer` sees and hears."""
    info = await stack.create(room)
    push = Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=name, size=(320, 180))
    await viewer.wait("a picture", lambda v: v.frames, 30)
    await viewer.wait_sound()
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    return info, push


def facts(participant):
    return sorted((t.type, t.name, t.source) for t in participant.tracks)


async def back(stack, before, seconds=30):
    """The participant once it has joined anew, and has its tracks and attributes."""
    end = time.monotonic() + seconds
    while True:
        found = await stack.participant("room", "room-pub")
        if found and found.sid != before.sid and len(found.tracks) == 2 and found.attributes["ingress.resourceID"]:
            return found
        assert time.monotonic() < end, f"not back after {seconds} s: {found}"
        await asyncio.sleep(0.05)


async def test_an_sfu_that_is_killed_and_comes_back_gets_the_same_tracks(own_stack):
    """Killed, so that nobody is told, and back after two seconds with what Redis knows: encoder and session never notice."""
    own_stack.start()
    async with Viewer(own_stack, "room") as viewer:
        info, push = await watched(own_stack, "room", viewer)
        before = await own_stack.wait_participant("room", "room-pub", tracks=2)
        state = (await own_stack.info(info.ingress_id)).state
    own_stack.livekit.kill()
    await asyncio.sleep(2)
    own_stack.start_livekit()
    # At first livekit-server tells what Redis knew; only what a viewer sees is there.
    async with Viewer(own_stack, "room", "later") as viewer:
        await viewer.wait("a picture", lambda v: v.frames, 30)
        await viewer.wait_sound()
    after = await back(own_stack, before)
    assert facts(after) == facts(before)
    assert after.attributes["ingress.resourceID"] == state.resource_id
    now = await own_stack.wait_state(info.ingress_id, "PUBLISHING")
    assert (now.resource_id, now.error) == (state.resource_id, "")
    assert push.running()


async def test_media_goes_over_tcp_where_there_is_no_udp(own_stack):
    own_stack.tcp_only = True
    own_stack.start()
    async with Viewer(own_stack, "room") as viewer:
        _, push = await watched(own_stack, "room", viewer)
        seen = len(viewer.frames)
        await viewer.wait("30 pictures more", lambda v: len(v.frames) >= seen + 30)
        assert push.running()
