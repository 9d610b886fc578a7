#!/usr/bin/env python3
"""What pulling a URL costs and how soon it shows: first picture, length, sound against picture, memory. Prints one line for each.

    INGRESS_BIN=… LIVEKIT_SERVER=… python e2e/bench_url.py [first] [length] [memory]
"""

import asyncio
import statistics
import subprocess
import sys
import time

import numpy as np
from livekit import rtc
from livekit.protocol import ingress as pb

from rig import Stack, Viewer, free_ports
from rig.media import QUIET
from rig.processes import Program, usage
from rig.web import Web

URL = pb.IngressInput.URL_INPUT
# White for a tenth of a second at each full second, and a beep with it.
FLASH = "color=black:size=1280x720:rate=30,drawbox=color=white:t=fill:enable='lt(mod(t,1),0.1)'"
BEEP = "sine=frequency=1000:sample_rate=48000,volume=4,volume='if(lt(mod(t,1),0.1),1,0)':eval=frame"


class Flashes(Viewer):
    """Notes when flashes and beeps begin."""

    def __init__(self, *args):
        super().__init__(*args)
        self.flashes, self.beeps = [], []

    async def _watch(self, track):
        before = True
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            frame, now = event.frame, time.monotonic()
            bright = float(np.frombuffer(frame.data, np.uint8, frame.width * frame.height).mean()) > 128
            self.frames.append((now, None, frame.width, frame.height))
            if bright and not before:
                self.flashes.append(now)
            before = bright

    async def _listen(self, track):
        before = True
        async for event in rtc.AudioStream(track):
            samples = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
            loud = float(np.sqrt((samples * samples).mean())) > 500
            self.levels.append((time.monotonic(), 0.0))
            if loud and not before:
                self.beeps.append(time.monotonic())
            before = loud

    def skew(self):
        """Milliseconds by which beeps come after their flashes: the median and the largest distance from it."""
        pairs = [1000 * (min(self.beeps, key=lambda b: abs(b - f)) - f) for f in self.flashes] if self.beeps else []
        pairs = [p for p in pairs if abs(p) < 450]
        if not pairs:
            return "no pairs"
        middle = statistics.median(pairs)
        return f"sound {middle:+.0f} ms after the picture (of {len(pairs)}, within {max(abs(p - middle) for p in pairs):.0f} ms of that)"


def media(stack, name, seconds, *options):
    path = stack.dir / name
    path.parent.mkdir(exist_ok=True)
    command = [*QUIET, "-y", "-f", "lavfi", "-i", FLASH, "-f", "lavfi", "-i", BEEP]
    command += ["-t", str(seconds), "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "60", "-bf", "2", "-c:a", "aac", *options, str(path)]
    subprocess.run(command, check=True)
    return name


async def once(stack, room, url, seconds):
    async with Flashes(stack, room) as viewer:
        begun = time.monotonic()
        await stack.create(room, input_type=URL, url=url)
        answered = time.monotonic() - begun
        await viewer.wait("picture", lambda v: v.frames)
        first = viewer.frames[0][0] - begun
        await asyncio.sleep(seconds)
        return f"answered {answered:.2f} s, first picture {first:.2f} s, {viewer.skew()}"


async def first(stack, web):
    media(stack, "flash.mp4", 15, "-movflags", "+faststart")
    media(stack, "flash/list.m3u8", 20, "-f", "hls", "-hls_time", "2", "-hls_list_size", "0")
    for attempt in range(3):
        print("mp4 ", await once(stack, f"mp4-{attempt}", f"{web.url}/file/flash.mp4", 8), flush=True)
        print("hls ", await once(stack, f"hls-{attempt}", f"{web.url}/file/flash/list.m3u8", 8), flush=True)
        [port] = free_ports(1)
        sender = Program("srt", [
            *QUIET, "-re", "-f", "lavfi", "-i", FLASH, "-re", "-f", "lavfi", "-i", BEEP, "-c:v", "libx264", "-preset", "ultrafast",
            "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30", "-c:a", "aac", "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener",
        ], stack.dir / "srt.log")
        await asyncio.sleep(1)
        print("srt ", await once(stack, f"srt-{attempt}", f"srt://127.0.0.1:{port}?latency=120", 8), flush=True)
        sender.kill()


async def length(stack, web):
    media(stack, "minute.mp4", 60, "-movflags", "+faststart")
    async with Flashes(stack, "minute") as viewer:
        info = await stack.create("minute", input_type=URL, url=f"{web.url}/file/minute.mp4")
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 90)
        shown = viewer.frames[-1][0] - viewer.frames[0][0]
    print(f"60 s: {(state.ended_at - state.started_at) / 1e9:.2f} s from admission to COMPLETE, {shown:.2f} s shown, {viewer.skew()}", flush=True)


async def memory(stack, web):
    media(stack, "flash.mp4", 15, "-movflags", "+faststart")
    large = stack.dir / "large.mkv"
    noise = ["-f", "lavfi", "-i", "nullsrc=size=640x360:rate=30,geq=random(1)*255:128:128", "-t", "4", "-c:v", "rawvideo", "-pix_fmt", "yuv420p"]
    subprocess.run([*QUIET, "-y", *noise, "-f", "rawvideo", str(stack.dir / "noise.yuv")], check=True)
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "40M", "-minrate", "40M", "-maxrate", "40M", "-bufsize", "10M", "-g", "30"]
    loop = ["-stream_loop", "-1", "-f", "rawvideo", "-s", "640x360", "-r", "30", "-pix_fmt", "yuv420p", "-i", str(stack.dir / "noise.yuv")]
    part = stack.dir / "part.mkv"
    subprocess.run([*QUIET, "-y", *loop, *encode, "-t", "8", str(part)], check=True)
    subprocess.run([*QUIET, "-y", "-stream_loop", str((2 << 30) // part.stat().st_size + 1), "-i", str(part), "-c", "copy", str(large)], check=True)
    for name, url in [("idle", None), ("small", "flash.mp4"), (f"{large.stat().st_size >> 20} MiB", "large.mkv")]:
        seen = []
        async with Viewer(stack, f"m-{name}") as viewer:
            if url:
                info = await stack.create(f"m-{name}", input_type=URL, url=f"{web.url}/file/{url}")
                await viewer.wait("picture", lambda v: v.frames)
            for _ in range(12):
                await asyncio.sleep(1)
                seen.append(usage(stack.ingress.pid)["pss"])
        if url:
            async with stack.api() as lk:
                await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=info.ingress_id))
        print(f"memory, {name}: {seen[2]:.0f} MiB after 3 s, {seen[-1]:.0f} MiB after 12 s, {max(seen):.0f} MiB at the most", flush=True)


async def main():
    stack = Stack().start()
    web = Web(stack.dir)
    try:
        for part in sys.argv[1:] or ["first", "length", "memory"]:
            await globals()[part](stack, web)
    finally:
        web.close()
        stack.stop()


asyncio.run(main())
