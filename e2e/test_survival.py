"""Publishing survives what happens to the SFU and on the way to it."""

import asyncio

from rig import Push, Viewer


async def watched(stack, room, viewer, name="push"):
    """A small session into `room` that `viewer` sees and hears."""
    info = await stack.create(room)
    push = Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=name, size=(320, 180))
    await viewer.wait("a picture", lambda v: v.frames, 30)
    await viewer.wait_sound()
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    return info, push


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
    after = await own_stack.wait_participant("room", "room-pub", tracks=2, seconds=30)
    assert [(t.type, t.name, t.source) for t in after.tracks] == [(t.type, t.name, t.source) for t in before.tracks]
    assert after.attributes["ingress.resourceID"] == state.resource_id
    async with Viewer(own_stack, "room", "later") as viewer:
        await viewer.wait("a picture", lambda v: v.frames, 30)
        await viewer.wait_sound()
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
