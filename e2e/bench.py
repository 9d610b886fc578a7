"""`./x bench`: what a session costs and how late it is, beside what its codecs alone cost on this machine.

Machines are noisy: figures compare within one run, not between runs. README states only figures that come from here.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import statistics
import sys
import time
from fractions import Fraction
from pathlib import Path

import bench_flood
import bench_loss
import bench_passthrough
import bench_soak
import bench_url
import bench_whip
from bench_session import WARM_UP, density, film, floor, latency
from rig import Source, Stack, Viewer
from rig.av_sync import Ears, flashing
from rig.processes import own_pss, usage

CROWD = 2000  # idle connections: what a port on the internet may see


async def lips(fps, rate, seconds):
    """How far sound and picture are apart at a viewer (flash and beep), and what grows meanwhile."""
    stack = Stack(patient=False)
    try:
        stack.start()
        info = await stack.create("lips")
        async with Ears(stack, "lips") as viewer:
            source = flashing(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "source.log", fps, rate).start()
            await viewer.wait("picture", lambda v: v.frames, 20)
            await asyncio.sleep(WARM_UP)
            since, before = time.monotonic(), usage(stack.ingress.pid)
            await asyncio.sleep(seconds)
            after, end = usage(stack.ingress.pid), time.monotonic()
            apart = [o.sound_after_picture_ms for o in viewer.offsets(fps, since)]
            tenth = seconds / 10
            early = viewer.latencies({n: t for n, t in source.sent.items() if t < since + tenth}, since)
            late = viewer.latencies(source.sent, end - tenth)
            gap = viewer.longest_gap(since)
            await source.stop()
        return dict(
            fps=round(float(fps), 2), sample_rate=rate, seconds=seconds, beeps=len(apart),
            sound_after_picture_ms=dict(least=round(min(apart)), p50=round(statistics.median(apart)), most=round(max(apart))),
            latency_ms=dict(first_tenth=round(statistics.median(early)), last_tenth=round(statistics.median(late))),
            pss_mib=dict(begin=round(before["pss"]), end=round(after["pss"])),
            longest_gap_ms=round(1000 * gap),
        )
    finally:
        stack.stop()


async def idle():
    """Memory of an ingress with nothing to do: the service, and the transcoder child that waits warm for the next session."""
    stack = Stack(patient=False)
    try:
        stack.start()
        await asyncio.sleep(2)
        found = usage(stack.ingress.pid)
        return dict(pss_mib=round(found["pss"]), service_pss_mib=round(own_pss(stack.ingress.pid), 1), processes=found["processes"], threads=found["threads"])
    finally:
        stack.stop()


def idlers(port, count, say):
    """Opens so many RTMP connections that are greeted and say nothing more; tells how many, and holds them until told to go."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100,) * 2)
    hello, connections = b"\3" + bytes(1536), []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", port), 10))
        connections[-1].sendall(hello)
    for c in connections:
        left = 1 + 2 * 1536
        while left:
            left -= len(c.recv(left)) or sys.exit("the ingress closed a connection")
        c.sendall(hello[1:])
    say.send(count)
    say.recv()


async def crowd(count, seconds):
    """What connections cost that are greeted and then idle, and what a stream notices of them. They are let go 10 s after their
    greeting if they don't publish, so they are looked at before."""
    limits = f"rtmp_max_connections: {count + 100}\nrtmp_max_connections_per_address: {count + 100}"
    stack = Stack(limits, patient=False)
    try:
        stack.start()
        info = await stack.create("crowd")
        async with Viewer(stack, "crowd") as viewer:
            source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "source.log").start()
            await viewer.wait("picture", lambda v: v.frames, 20)
            await asyncio.sleep(WARM_UP)
            quiet = time.monotonic()
            await asyncio.sleep(seconds)
            begin, before = time.monotonic(), own_pss(stack.ingress.pid)
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(target=idlers, args=(stack.port["rtmp"], count, theirs))
            process.start()
            there = await asyncio.to_thread(lambda: ours.poll(60) and ours.recv())
            opened = time.monotonic()
            await asyncio.sleep(5)
            after, end = own_pss(stack.ingress.pid), time.monotonic()
            ours.send("go")
            process.join(10)
            await source.stop()
        return dict(
            connections=there, opened_in_s=round(opened - begin, 1), service_pss_mib=dict(before=round(before, 1), with_them=round(after, 1)),
            mib=round(after - before, 1), longest_gap_ms=dict(before=round(1000 * viewer.longest_gap(quiet, begin)), with_them=round(1000 * viewer.longest_gap(begin, end))),
        )
    finally:
        stack.stop()


def pulled(show, a, parts):
    """What is measured of URLs: all but the longest, or the `parts` that are named."""
    sources = parts - {"lips", "length", "cpu", "memory", "life"}
    if not parts or sources or "lips" in parts:
        asyncio.run(bench_url.lips(show, round(a.seconds), sources))
    if not parts or "length" in parts:
        asyncio.run(bench_url.length(show, 60))
    if not parts or "cpu" in parts:
        clip = a.clip or film()
        show("codec floor", floor(clip))
        show("density", asyncio.run(density(clip, 1, 1, a.seconds, 0)))
        show("url density", asyncio.run(bench_url.cpu(clip, a.seconds, WARM_UP)))
    if not parts or "memory" in parts:
        asyncio.run(bench_url.memory(show, 12))
    if "life" in parts:
        asyncio.run(bench_url.life(show, 180))


def main():
    p = argparse.ArgumentParser(prog="./x bench", description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=20, help="how long each figure is measured (default 20)")
    p.add_argument("--sessions", type=int, default=2, help="how many at once in the run with several (default 2)")
    p.add_argument("--long", type=float, default=0, metavar="MINUTES",
                   help="nothing but flash and beep at 29.97 fps and 44.1 kHz for so long")
    p.add_argument("--crowd", type=int, default=0, metavar="CONNECTIONS", help="nothing but what so many idle RTMP connections cost")
    p.add_argument("--flood", type=float, default=0, metavar="SECONDS",
                   help="nothing but 1,000 garbage connections a second beside a good stream, whose viewer may see no gap over 200 ms")
    p.add_argument("--soak", type=float, nargs="?", const=30, metavar="MINUTES",
                   help="nothing but streams that come and go on all inputs while things fail, for so long (default 30); fails on a leak")
    p.add_argument("--url", nargs="*", metavar="PART",
                   help="only URLs that are pulled, or of these only: lips, length, cpu, memory, life (3 minutes), or names of sources "
                   "(mp4, mkv, ts, webm, hls, hls4, srt, srt-clumps, rtsp, rtsp-reordered, live-hls, live-hls-2, -4, -6)")
    p.add_argument("--whip", nargs="*", metavar="PART",
                   help="only WHIP, or of it only these: latency, one, twenty, many (200 sessions for a minute)")
    p.add_argument("--loss", nargs="*", metavar="PART",
                   help="nothing but what lost packets cost a viewer; or of that only: aiortc, chromium, ffmpeg (WHIP), sfu")
    p.add_argument("--passthrough", action="store_true",
                   help="only H.264 that fits the room: passed through beside encoded again, with what each costs, how late it is, and how "
                   "soon late viewers see it")
    p.add_argument("--clip", type=Path, help="a film of your own instead of the one that is fetched")
    a = p.parse_args()

    def show(name, found):
        print(json.dumps({name: found}), flush=True)

    if a.long:
        show("flash and beep", asyncio.run(lips(Fraction(30000, 1001), 44100, a.long * 60)))
        return
    if a.crowd:
        show("crowd", asyncio.run(crowd(a.crowd, a.seconds)))
        return
    if a.flood:
        show("flood", asyncio.run(bench_flood.flood(a.flood)))
        return
    if a.soak:
        sys.exit(0 if asyncio.run(bench_soak.soak(show, a.soak)) else 1)
    if a.url is not None:
        pulled(show, a, set(a.url))
        return
    if a.whip is not None:
        asyncio.run(bench_whip.all(show, a.seconds, set(a.whip)))
        return
    if a.loss is not None:
        asyncio.run(bench_loss.all(show, a.seconds, set(a.loss)))
        return
    clip = a.clip or film()
    if a.passthrough:
        asyncio.run(bench_passthrough.all(show, a.seconds, clip))
        return

    show("codec floor", floor(clip))
    nothing = asyncio.run(idle())
    show("idle", nothing)
    show("latency", asyncio.run(latency(a.seconds)))
    for fps, rate in ((Fraction(30), 48000), (Fraction(30000, 1001), 44100)):
        show("flash and beep", asyncio.run(lips(fps, rate, a.seconds)))
    for sessions, viewers in ((1, 0), (1, 1), (a.sessions, 1)):
        show("density", asyncio.run(density(clip, sessions, viewers, a.seconds, nothing["pss_mib"])))
    show("crowd", asyncio.run(crowd(CROWD, a.seconds)))
    pulled(show, a, {"lips"})
    asyncio.run(bench_whip.all(show, a.seconds))


if __name__ == "__main__":
    main()
