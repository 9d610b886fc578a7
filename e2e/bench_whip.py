"""What `./x bench --whip` measures of WHIP: how late pictures are, when the first one comes, and what sessions cost that are passed on.

Delays are of aiortc's pictures, from before its encoder. Cores are of FFmpeg's muxer sending a file: sending one packet after the
other is all it does, so that twenty and two hundred of it leave room on a small machine.
"""

import asyncio
import statistics
import subprocess
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from livekit import rtc
from livekit.protocol import ingress as pb

from rig import Stack, Viewer
from rig.media import QUIET, ffmpeg9
from rig.processes import Program, usage
from rig.whip import Whip

WHIP = pb.IngressInput.WHIP_INPUT
# Seconds until a session is steady: viewers' jitter buffers have settled.
WARM_UP = 8
# Sessions that are started side by side: each costs its client a handshake and a start of ffmpeg.
AT_ONCE = 4
# Of two hundred, so many are watched: their pictures tell that all goes well.
WATCHED = 4


@contextmanager
def running():
    stack = Stack("whip_max_connections_per_address: 1000\n", patient=False)
    try:
        yield stack.start()
    finally:
        stack.stop()


def clip(stack, kbits):
    """A minute at 720p30 with so many kbit/s of pictures, whatever is in them: a still that is filled up (ITU-T H.264 §7.4.2.7), so
    that it costs viewers next to nothing to decode. Below 1 Mbit/s it is a small picture."""
    path = stack.dir / f"whip{kbits}.mkv"
    size, rate = "1280x720" if kbits >= 1000 else "320x180", f"{kbits}k"
    subprocess.run([
        *QUIET, "-y", "-f", "lavfi", "-i", f"testsrc=size={size}:rate=1,fps=30", "-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000",
        "-t", "60", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-pix_fmt", "yuv420p",
        "-g", "60", "-b:v", rate, "-maxrate", rate, "-bufsize", f"{kbits // 5}k", "-x264-params", "nal-hrd=cbr",
        "-c:a", "libopus", "-ac", "2", "-b:a", "64k" if kbits >= 1000 else "16k", str(path),
    ], check=True)
    return path


def push(stack, path, key, name):
    command = [
        ffmpeg9(), *QUIET[1:], "-re", "-stream_loop", "-1", "-i", path, "-c", "copy", "-f", "whip", "-authorization", key, stack.whip_url,
    ]
    program = Program(name, command, stack.dir / f"{name}.log")
    stack.programs.append(program)
    return program


class Decoder:
    """A viewer whose pictures are decoded and looked at by nobody, as many fit on a machine."""

    def __init__(self, stack, room):
        self.stack, self.name, self.room, self.tracks = stack, room, rtc.Room(), []

    async def __aenter__(self):
        self.room.on("track_subscribed", lambda track, *_: self.tracks.append(track))
        await self.room.connect(self.stack.ws_url, self.stack.token(self.name, "decoder"), rtc.RoomOptions(auto_subscribe=True))
        return self

    async def __aexit__(self, *exc):
        await self.room.disconnect()

    async def pictures(self):
        """How many were decoded, and for how many seconds the picture was frozen."""
        video = [t for t in self.tracks if t.kind == rtc.TrackKind.KIND_VIDEO]
        stats = [s.inbound_rtp.inbound for t in video for s in await t.get_stats() if s.WhichOneof("stats") == "inbound_rtp"]
        return sum(s.frames_decoded for s in stats), sum(s.total_freeze_duration for s in stats)


@asynccontextmanager
async def pushing(stack, sessions, watched, kbits):
    """So many sessions of a file, the first of them watched, the first one with open eyes. Gives the pushing programs, the
    first viewer and the others once all of them publish."""
    path = clip(stack, kbits)
    async with AsyncExitStack() as viewers:
        programs, seeing, ingresses = [], [], []

        async def one(number):
            room = f"whip{number}"
            info = await stack.create(room, WHIP)
            ingresses.append(info.ingress_id)
            if number < watched:
                viewer = Viewer(stack, room) if number == 0 else Decoder(stack, room)
                seeing.append(await viewers.enter_async_context(viewer))
            programs.append(push(stack, path, info.stream_key, room))
            await stack.wait_state(info.ingress_id, "PUBLISHING", 60)

        for first in range(0, sessions, AT_ONCE):
            await asyncio.gather(*(one(n) for n in range(first, min(first + AT_ONCE, sessions))))
        eyes = next(v for v in seeing if isinstance(v, Viewer))
        yield programs, eyes, [v for v in seeing if v is not eyes], ingresses


async def sessions(count, watched, kbits, seconds):
    """CPU and memory of so many sessions, and what viewers have of it."""
    with running() as stack:
        await asyncio.sleep(2)
        idle = usage(stack.ingress.pid)["pss"]
        async with pushing(stack, count, watched, kbits) as (programs, eyes, others, ingresses):
            await asyncio.sleep(WARM_UP)
            frozen = [await v.pictures() for v in others]
            before, begin = usage(stack.ingress.pid), time.monotonic()
            await asyncio.sleep(seconds)
            after, end = usage(stack.ingress.pid), time.monotonic()
            now = [await v.pictures() for v in others]
            fps = [len([f for f in eyes.frames if begin < f.at <= end]) / (end - begin)]
            fps += [(b[0] - a[0]) / (end - begin) for a, b in zip(frozen, now)]
            states = [(await stack.info(i)).state for i in ingresses]
        took = end - begin
        return dict(
            sessions=count, watched=watched, kbits=kbits, seconds=round(seconds), lost=count - sum(p.running() for p in programs),
            publishing=sum(s.status == pb.IngressState.Status.ENDPOINT_PUBLISHING for s in states),
            cores=round((after["cpu"] - before["cpu"]) / took, 3), cores_per_session=round((after["cpu"] - before["cpu"]) / took / count, 4),
            pss_mib=round(after["pss"]), pss_mib_per_session=round((after["pss"] - idle) / count, 2), processes=after["processes"],
            fps_seen=dict(least=round(min(fps), 1), p50=round(statistics.median(fps), 1)),
            frozen_s=round(max((b[1] - a[1] for a, b in zip(frozen, now)), default=0), 2),
            longest_gap_ms=round(1000 * eyes.longest_gap(begin, end)),
        )


async def latency(transcode, seconds):
    """How late a viewer has aiortc's numbered pictures of 720p30, and the first of them. It takes a core to encode them, so the
    cores told are those of a busy machine."""
    with running() as stack:
        await asyncio.sleep(2)
        info = await stack.create("late", WHIP, enable_transcoding=transcode)
        async with Viewer(stack, "late") as viewer:
            begin = time.monotonic()
            async with Whip(stack.whip_url, info.stream_key, size=(1280, 720), fps=30) as client:
                await viewer.wait("picture", lambda v: v.frames, 20)
                await asyncio.sleep(WARM_UP)
                before, since = usage(stack.ingress.pid), time.monotonic()
                await asyncio.sleep(seconds)
                after, end = usage(stack.ingress.pid), time.monotonic()
                late = sorted(viewer.latencies(client.sent, since))
                gap = viewer.longest_gap(since, end)
    p = statistics.quantiles(late, n=100)
    return dict(
        transcoded=transcode, latency_ms=dict(p50=round(p[49]), p95=round(p[94]), p99=round(p[98])),
        first_picture_s=round(viewer.frames[0].at - begin, 2), longest_gap_ms=round(1000 * gap),
        cores=round((after["cpu"] - before["cpu"]) / (end - since), 4), fps_seen=round(len(late) / (end - since), 1),
    )


async def all(show, seconds, parts=()):
    """Each of the measurements, or those named."""
    if not parts or "latency" in parts:
        for transcode in (False, True):
            show("whip latency", await latency(transcode, seconds))
    for name, count, watched, kbits, least in (("one", 1, 1, 3000, 0), ("twenty", 20, 20, 3000, 0), ("many", 200, WATCHED, 100, 60)):
        if not parts or name in parts:
            show(f"whip {name}", await sessions(count, watched, kbits, max(seconds, least)))
