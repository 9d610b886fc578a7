"""A second push with the key of a session that runs (`on_duplicate`), and how long a drain may last (`drain_timeout`)."""

import asyncio
import signal
import time

import pytest

from conftest import run
from rig import Refused, Reports, RtmpClient, Source, Stack, Viewer


def source(stack, info, name):
    return Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / f"{name}.log", size=(320, 180)).start()


async def test_a_takeover_keeps_the_participant(stack, reports):
    """An encoder that came back before its old connection was known to be dead: the session goes on with the new one. The room
    sees the same participant with the same tracks, and the state never leaves PUBLISHING."""
    info = await stack.create("takeover")
    old = source(stack, info, "old")
    async with Viewer(stack, "takeover") as viewer:
        await viewer.wait_numbers(60)
        before = await stack.wait_participant("takeover", "takeover-pub", tracks=2)
        new = source(stack, info, "new")
        try:
            # The new one counts from 0 again: what is seen falls back once.
            switched = len(viewer.frames)
            await viewer.wait("the new one", lambda v: any(n < 40 for n in v.numbers(switched)))
            await viewer.wait("pictures of it", lambda v: len({n for n in v.numbers(switched) if n < 60}) > 20)
            await viewer.wait_tone(330)
            await asyncio.to_thread(old.process.wait, 15)
            assert "another encoder has connected" in old.log.read_text()
            after = await stack.participant("takeover", "takeover-pub")
            assert (after.sid, {t.sid for t in after.tracks}) == (before.sid, {t.sid for t in before.tracks})
            assert new.running()
            assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING"]
            assert len({r.state.resource_id for r in reports.of(info.ingress_id)}) == 1
        finally:
            await new.stop()
            await old.stop()
    await stack.wait_state(info.ingress_id, "INACTIVE")
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "INACTIVE"]


@pytest.fixture(scope="module")
def strict_stack():
    """A stack that refuses second pushes, and drains for two seconds at most."""
    for s in run(Stack("on_duplicate: refuse\ndrain_timeout: 2s")):
        yield s.start()


async def test_a_second_push_is_refused_if_configured(strict_stack):
    stack, reports = strict_stack, Reports(strict_stack)
    info = await stack.create("refused")
    first = source(stack, info, "first")
    async with Viewer(stack, "refused") as viewer:
        try:
            await viewer.wait_numbers(20)
            for _ in range(2):
                with RtmpClient(stack.port["rtmp"]) as second, pytest.raises(Refused) as refusal:
                    await asyncio.to_thread(second.connect)
                    await asyncio.to_thread(second.publish, info.stream_key)
                assert "in use by another encoder" in refusal.value.description
            await viewer.wait_numbers(20, over=viewer.numbers()[-1])
            assert (await stack.wait_state(info.ingress_id, "PUBLISHING")).error == ""
            assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING"]
        finally:
            await first.stop()
    await stack.wait_state(info.ingress_id, "INACTIVE")
    # The key is free again.
    again = source(stack, info, "again")
    try:
        await stack.wait_state(info.ingress_id, "PUBLISHING")
    finally:
        await again.stop()
    reports.close()


async def test_a_drain_ends_after_drain_timeout(strict_stack):
    """Sessions that go on for longer than `drain_timeout` are ended in order, and reported. The last test of this stack."""
    stack, reports = strict_stack, Reports(strict_stack)
    info = await stack.create("drained")
    encoder = source(stack, info, "drained")
    try:
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        began = time.monotonic()
        stack.ingress.signal(signal.SIGTERM)
        await asyncio.sleep(1)
        assert encoder.running() and stack.ingress.running(), "it may go on for two seconds"
        assert await asyncio.to_thread(stack.ingress.wait_exit, 20) == 0
        assert time.monotonic() - began > 2
        await asyncio.to_thread(encoder.process.wait, 15)
        await stack.wait_state(info.ingress_id, "INACTIVE")
        await stack.wait_participant("drained", "drained-pub", here=False)
        assert reports.statuses(info.ingress_id)[-1] == "INACTIVE"
    finally:
        await encoder.stop()
        reports.close()
