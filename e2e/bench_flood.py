"""A port on the internet: garbage connections by the thousand beside a good stream, and what its viewer sees of them."""

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from rig import Feeder, Stack, Viewer, flv, numbered_clip
from rig.flood import garbage
from rig.processes import usage

RATE, GAP = 1000, 0.2  # connections a second; seconds without a picture that are promised not to come
OPENERS = 2  # processes that open them: one alone comes to some 700 a second


async def flood(seconds):
    """`RATE` connections a second, of all kinds, at the RTMP and the WHIP port. Fails if the viewer sees a gap over `GAP`, or if this
    machine can't open so many."""
    stack = Stack()
    try:
        stack.start()
        film = flv.read(numbered_clip(stack.dir / "film.flv", 2 * seconds + 15))
        info = await stack.create("flooded")
        async with Viewer(stack, "flooded") as viewer, Feeder(stack, info.stream_key) as feeder:
            playing = asyncio.create_task(feeder.play(film))
            await viewer.wait_numbers(90)
            quiet_since, quiet = time.monotonic(), usage(stack.ingress.pid)
            await asyncio.sleep(seconds / 2)
            quiet_until = time.monotonic()
            processes = ProcessPoolExecutor(OPENERS, multiprocessing.get_context("spawn"))
            ports, loop = [stack.port["rtmp"], stack.port["whip"]], asyncio.get_running_loop()
            # Starting and ending them keeps this process, and with it the viewer, from its work: not while it is measured.
            await asyncio.gather(*(loop.run_in_executor(processes, time.sleep, 0.5) for _ in range(OPENERS)))
            await asyncio.sleep(1)
            since, before = time.monotonic(), usage(stack.ingress.pid)
            openers = [loop.run_in_executor(processes, garbage, ports, RATE / OPENERS, seconds) for _ in range(OPENERS)]
            opened = sum(await asyncio.gather(*openers))
            lasted, after = time.monotonic() - since, usage(stack.ingress.pid)
            gap = viewer.longest_gap(since)
            processes.shutdown(wait=False)
            playing.cancel()
        result = dict(
            connections=opened, per_second=round(opened / seconds), longest_gap_ms=round(1000 * gap),
            longest_gap_before_ms=round(1000 * viewer.longest_gap(quiet_since, quiet_until)),
            cores=round((after["cpu"] - before["cpu"]) / lasted, 2),
            cores_before=round((before["cpu"] - quiet["cpu"]) / (since - quiet_since), 2),
            gave_way=round(stack.metric("ingress_rtmp_ended_connections_total", how="gave_way")),
        )
        assert opened >= 0.95 * RATE * seconds, f"only {opened / seconds:.0f} connections a second could be opened: {result}"
        assert gap <= GAP, f"the viewer saw nothing for {1000 * gap:.0f} ms: {result}"
        return result
    finally:
        stack.stop()
