"""The wall clock of the ingress's machine is wrong, and is put right: within a session, and between two. Media runs by another clock."""

import asyncio
import json
import time
from datetime import datetime

import pytest

from rig import Push, Refused, RtmpClient, Source, Viewer, status_name
from rig.clock import Clock
from rig.viewer import FROZEN


@pytest.fixture
def clock(own_stack):
    """The clock of all ingresses of `own_stack`, which is started."""
    clock = Clock(own_stack.dir)
    own_stack.wrap = clock.wrap
    own_stack.start()
    return clock


def off(line):
    """Seconds by which the clock was ahead of this machine's that has just written this line of a log."""
    return datetime.fromisoformat(json.loads(line)["ts"]).timestamp() - time.time()


@pytest.mark.parametrize("at_first, then", [(45, 0), (0, -600), (0, 86400)], ids=["put right", "set back", "set ahead"])
async def test_the_clock_is_set_within_a_session(own_stack, clock, at_first, then):
    """Viewers notice nothing. The end is stored as one of this session, as soon as the clock is right: while it is behind, all that
    livekit-server is asked looks out of date to it."""
    clock.set(at_first)
    info = await own_stack.create("room")
    async with Viewer(own_stack, "room") as viewer:
        source = Source(f"{own_stack.rtmp_url}/{info.stream_key}", own_stack.dir / "source.log", size=(320, 180)).start()
        try:
            await viewer.wait_numbers(60)
            await viewer.wait_sound()
            state = await own_stack.wait_state(info.ingress_id, "PUBLISHING")
            clock.set(then)
            since, heard = time.monotonic(), len(viewer.levels)
            await viewer.wait("pictures of eight seconds", lambda v: v.frames[-1].at > since + 8, 20)
            assert viewer.longest_gap(since) < FROZEN
            await viewer.wait("sound of eight seconds", lambda v: v.levels[-1][0] > since + 8)
            assert min(level for _, level in viewer.levels[heard + 50 :]) > 300, "it has never stopped"
            assert source.running() and status_name((await own_stack.info(info.ingress_id)).state) == "PUBLISHING"
        finally:
            await source.stop()
    line = await asyncio.to_thread(own_stack.ingress.wait_log, '"status":"Inactive"', 15)
    assert abs(off(line) - then) < 20, "the program has this clock"
    clock.set(0)
    final = await own_stack.wait_state(info.ingress_id, "INACTIVE", 20)
    assert (final.started_at, final.resource_id, final.error) == (state.started_at, state.resource_id, "")
    assert final.started_at <= final.ended_at <= final.updated_at and final.updated_at > state.updated_at


async def session(stack, info, name):
    """An encoder that publishes, and the state that is stored then."""
    encoder = Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=name, size=(320, 180))
    return encoder, await stack.wait_state(info.ingress_id, "PUBLISHING", 20)


async def test_the_clock_is_set_back_between_sessions(own_stack, clock):
    """The second begins before the first, by the clock: it is stored all the same, in the same process and in one started since, and
    what the API asks of it is done."""
    clock.set(50)
    info = await own_stack.create("room")
    encoder, first = await session(own_stack, info, "first")
    assert first.started_at / 1e9 > time.time() + 20, "the clock is ahead"
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    clock.set(0)
    encoder, second = await session(own_stack, info, "second")
    assert second.started_at > first.started_at and second.resource_id != first.resource_id
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    own_stack.ingress.end()
    clock.set(-1)
    own_stack.start_ingress(name="again")
    encoder, third = await session(own_stack, info, "third")
    assert third.started_at > second.started_at
    await own_stack.delete(info.ingress_id)
    await asyncio.to_thread(encoder.wait_exit, 10)
    assert await own_stack.info(info.ingress_id) is None
    await own_stack.wait_participant("room", "room-pub", here=False)
