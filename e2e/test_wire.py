"""What is between the ingress and the SFU loses packets, or breaks: viewers hardly notice."""

import asyncio

from rig import Push, Source, Viewer
from rig.wire import Wire

RATE = 48000  # samples of sound in a second


async def test_one_packet_in_twenty_is_lost_on_the_way_to_the_sfu(own_stack):
    """Pictures are asked for again; sound is repeated, without which one sample in twenty would be made up."""
    with Wire(own_stack, loss=0.05, reorder=0.02) as wire:
        own_stack.start()
        info = await own_stack.create("room")
        async with Viewer(own_stack, "room") as viewer:
            source = Source(f"{own_stack.rtmp_url}/{info.stream_key}", own_stack.dir / "source.log", size=(640, 360)).start()
            await viewer.wait("a picture", lambda v: v.frames, 30)
            await viewer.wait_sound()
            # The SFU's reports have told of losses by then.
            await viewer.wait("losses", lambda v: wire.network.dropped > 50, 60)
            first, (played, made_up) = viewer.numbers()[-1], await viewer.samples()
            await viewer.wait("150 pictures later", lambda v: max(v.numbers()) > first + 150, 60)
            while (now := await viewer.samples())[0] < played + 5 * RATE:
                await asyncio.sleep(0.2)
            await source.stop()
            seen = {n for n in viewer.numbers() if first < n <= first + 150}
        assert len(seen) >= 120, sorted(set(range(first + 1, first + 151)) - seen)
        share = (now[1] - made_up) / (now[0] - played)
        assert share < 0.02, f"{share:.1%} of the sound was made up"


async def test_signalling_that_breaks_is_taken_up_again_while_media_flows(own_stack):
    with Wire(own_stack) as wire:
        own_stack.start()
        info = await own_stack.create("room")
        async with Viewer(own_stack, "room") as viewer:
            push = Push(own_stack, f"{own_stack.rtmp_url}/{info.stream_key}", size=(320, 180))
            await viewer.wait("a picture", lambda v: v.frames, 30)
            await viewer.wait_sound()
            before = await own_stack.wait_participant("room", "room-pub", tracks=2)
            wire.cut()
            seen = len(viewer.frames)
            await viewer.wait("60 pictures without signalling", lambda v: len(v.frames) >= seen + 60)
            opened = wire.mend()
            await viewer.wait("signalling again", lambda v: wire.opened > opened)
            seen, heard = len(viewer.frames), len(viewer.levels)
            await viewer.wait("60 pictures more", lambda v: len(v.frames) >= seen + 60 and len(v.levels) > heard + 100)
            await viewer.wait_sound()
        after = await own_stack.participant("room", "room-pub")
        assert after.sid == before.sid
        assert sorted(t.sid for t in after.tracks) == sorted(t.sid for t in before.tracks)
        assert push.running()
        await own_stack.wait_state(info.ingress_id, "PUBLISHING")


async def test_media_moves_to_tcp_when_udp_stops_passing(own_stack):
    with Wire(own_stack) as wire:
        own_stack.start()
        info = await own_stack.create("room")
        async with Viewer(own_stack, "room") as viewer:
            push = Push(own_stack, f"{own_stack.rtmp_url}/{info.stream_key}", size=(320, 180))
            await viewer.wait("a picture", lambda v: v.frames, 30)
            await viewer.wait_sound()
            wire.block()
            seen, passed = len(viewer.frames), wire.network.media
            await viewer.wait("60 pictures by another way", lambda v: len(v.frames) >= seen + 60, 45)
            await viewer.wait_sound()
            assert wire.network.media <= passed + 10, "media still goes through what is blocked"
        assert push.running()
        await own_stack.wait_state(info.ingress_id, "PUBLISHING")
