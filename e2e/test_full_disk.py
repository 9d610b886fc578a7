"""A disk is full: the one for temporary files, the one that the log goes to, or Redis' own. What needs no disk goes on, what needs one ends
in words, and afterwards all is well again."""

import asyncio
import os
import signal
import subprocess
import time

import pytest

from rig import Push, Refused, RtmpClient, Viewer, status_name
from rig.disk import small_disk
from rig.processes import descendants
from rig.pulls import AAC, H264, fails, make, plays
from rig.viewer import FROZEN
from rig.web import Web

FULL = "No space left on device"


def push(stack, info, name):
    return Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=name, size=(320, 180))


async def test_no_room_for_a_temporary_file(own_stack):
    """A file that has to be on disk whole, and finds no room there: that pull ends in words, nothing else is touched, and the room that it
    took is there for the next."""
    # GStreamer's registry is made there too, and takes 1.2 MB for a moment.
    own_stack.wrap = small_disk(own_stack.dir / "disk", "3m")
    own_stack.start()
    web = Web(own_stack.dir)
    try:
        # Their index is at the end, and the server sends no part of a file.
        make(own_stack, "large.mp4", *H264, "-b:v", "8M", "-minrate", "8M", "-maxrate", "8M", "-bufsize", "8M", "-nal-hrd", "cbr", *AAC, seconds=5)
        make(own_stack, "small.mp4", *H264, *AAC, seconds=4)
        large, small = ((own_stack.dir / name).stat().st_size for name in ("large.mp4", "small.mp4"))
        assert large > 3 << 20 and small < 2 << 20, (large, small)
        info = await own_stack.create("beside")
        async with Viewer(own_stack, "beside") as viewer:
            encoder = push(own_stack, info, "beside")
            await viewer.wait_size(320, 180)
            # Twice, as what the first has taken would be missing then.
            for turn in range(2):
                error = await fails(own_stack, f"large-{turn}", f"{web.url}/plain/large.mp4")
                assert FULL in error and "temporary file" in error, error
            await plays(own_stack, "small", f"{web.url}/plain/small.mp4")
            seen = len(viewer.frames)
            await viewer.wait("more pictures", lambda v: len(v.frames) > seen + 30)
            assert encoder.running() and own_stack.metric("ingress_transcoder_restarts_total") == 0
    finally:
        web.close()


async def test_no_room_at_the_start(own_stack):
    """Not even for the registry of GStreamer's plugins: that is said, and streams play."""
    own_stack.wrap = small_disk(own_stack.dir / "disk", "64k")
    own_stack.start()
    own_stack.ingress.wait_log("registry", 30)
    info = await own_stack.create("full")
    async with Viewer(own_stack, "full") as viewer:
        push(own_stack, info, "full")
        await viewer.wait_size(320, 180)
        await viewer.wait_sound()


async def test_no_room_for_the_log(own_stack):
    """Nobody is left to tell, and nothing else comes of it: sessions, workers that crash, refusals, the end."""
    own_stack.wrap = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")
    own_stack.start()
    info = await own_stack.create("silent")
    async with Viewer(own_stack, "silent") as viewer:
        encoder = push(own_stack, info, "silent")
        await viewer.wait_size(320, 180)
        for pid in descendants(own_stack.ingress.pid)[1:]:
            os.kill(pid, signal.SIGKILL)
        seen = len(viewer.frames)
        await viewer.wait("pictures of another worker", lambda v: len(v.frames) > seen + 60)
        with RtmpClient(own_stack.port["rtmp"]) as client, pytest.raises(Refused):
            client.connect()
            client.publish("nosuchkey1234")
    assert own_stack.metric("ingress_transcoder_restarts_total") == 1
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    own_stack.ingress.signal(signal.SIGTERM)
    assert await asyncio.to_thread(own_stack.ingress.wait_exit, 15) == 0
    assert own_stack.ingress.text() == ""


async def test_the_disk_of_redis_is_full(own_stack):
    """Redis then refuses all that writes, for so long that records of instances would have expired. Streams go on, and what ended
    meanwhile is stored afterwards."""
    own_stack.start()
    redis = lambda *words: subprocess.run(["redis-cli", "-p", str(own_stack.port["redis"]), *words], capture_output=True, text=True, check=True).stdout
    stays, ends = await own_stack.create("stays"), await own_stack.create("ends")
    async with Viewer(own_stack, "stays") as viewer:
        encoders = [push(own_stack, info, info.name) for info in (stays, ends)]
        await viewer.wait_size(320, 180)
        before = [await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20) for info in (stays, ends)]
        # To Redis it is all one why a snapshot could not be written; a directory in its place needs no disk of its own.
        (own_stack.dir / "dump.rdb").mkdir()
        redis("config", "set", "save", "3600 1")
        redis("bgsave")
        end = time.monotonic() + 15
        while "MISCONF" not in redis("set", "a", "b"):
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        since = time.monotonic()
        await asyncio.sleep(3)
        encoders[1].hang_up()
        await asyncio.sleep(22)
        assert "MISCONF" in redis("set", "a", "b")
        assert encoders[0].running() and viewer.longest_gap(since) < FROZEN
        (own_stack.dir / "dump.rdb").rmdir()
        redis("bgsave")
        after = await own_stack.wait_state(ends.ingress_id, "INACTIVE", 30)
        assert (after.started_at, after.resource_id, after.error) == (before[1].started_at, before[1].resource_id, "")
        own_stack.wait_available()
        for _ in range(8):
            state = (await own_stack.info(stays.ingress_id)).state
            assert (status_name(state), state.resource_id) == ("PUBLISHING", before[0].resource_id)
            await asyncio.sleep(0.5)
        encoders[0].hang_up()
    await own_stack.wait_state(stays.ingress_id, "INACTIVE")
