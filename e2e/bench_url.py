"""What `./x bench --url` measures of URLs that are pulled: first picture, sound against picture, delay, length, CPU and memory."""

import asyncio
import socket
import statistics
import subprocess
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction

from livekit.protocol import ingress as pb

from rig import Source, Stack, free_ports
from rig.av_sync import Ears, beeps, flashing_clip
from rig.media import QUIET, h264
from rig.picture import BITS
from rig.processes import usage, wait_for
from rig.web import Web

URL = pb.IngressInput.URL_INPUT
FPS = Fraction(30)
B_FRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "60", "-bf", "2", "-b:v", "3M"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "60", "-b:v", "3M"]
AAC, OPUS = ["-c:a", "aac", "-b:a", "128k"], ["-c:a", "libopus", "-b:a", "96k"]
# Files by what they are called here: pictures, sound and container.
FILES = {
    "flash.mp4": (B_FRAMES, AAC, ["-movflags", "+faststart", "-f", "mp4"]),
    "flash.mkv": (B_FRAMES, AAC, ["-f", "matroska"]),
    "flash.ts": (B_FRAMES, AAC, ["-f", "mpegts"]),
    "flash.webm": (VP9, OPUS, ["-f", "webm"]),
    "hls/list.m3u8": (B_FRAMES, AAC, ["-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]),
    "hls4/list.m3u8": (B_FRAMES, AAC, ["-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "-hls_segment_type", "fmp4"]),
}
SIZE = (1280, 720)
# Of what comes over SRT: as small as what comes over RTSP, so that neither its encoder nor the viewer takes the CPU from what is measured.
SRT_SIZE = (640, 360)
# Seconds of segments of live HLS, by what it is called here.
SEGMENTS = {"live-hls": 1, "live-hls-2": 2, "live-hls-4": 4, "live-hls-6": 6}
# Milliseconds for which SRT itself holds what it brings, so that what got lost can be sent again.
SRT_LATENCY = 120


def clip(stack, name, seconds):
    """A file of numbered pictures with a beep each second; made once."""
    path = stack.dir / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        coding, sound, muxer = FILES[name]
        flashing_clip(path, seconds, size=SIZE, coding=coding, sound=sound, muxer=muxer)
    return name


class Clock:
    """When each number of the RTSP server's was made."""

    def get(self, number):
        whole = (1 << BITS) // FPS  # seconds until they begin again
        made = float(number / FPS)
        return made + (time.monotonic() - made) // whole * whole


class Copy:
    """What a sender of MPEG-TS hands over, heard as a copy over UDP: when each picture had left its muxer as a whole."""

    PICTURES = 0x100  # the first stream of ffmpeg's muxer

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.left, self.number = {}, -1
        threading.Thread(target=self._hear, daemon=True).start()

    @property
    def url(self):
        return "udp://127.0.0.1:%d?pkt_size=1316" % self.socket.getsockname()[1]

    def _hear(self):
        while data := self.socket.recv(2048):
            now = time.monotonic()
            for at in range(0, len(data), 188):
                if (data[at + 1] & 0x1F) << 8 | data[at + 2] == self.PICTURES:
                    self.number += data[at + 1] >> 6 & 1
                    self.left[self.number] = now

    def close(self):
        self.socket.sendto(b"", self.socket.getsockname())


@asynccontextmanager
async def srt(stack, *options):
    """`options` are those of the container. As it comes, ffmpeg lets sound wait until 3 kB or 350 ms of it fill a packet."""
    [port] = free_ports(1)
    copy = Copy()
    of = ":".join(["f=mpegts", "flush_packets=1", *options])
    # Its own latency (microseconds to ffmpeg) is the smaller part of what is agreed on.
    targets = f"[{of}]srt://127.0.0.1:{port}?mode=listener&latency=20000|[{of}]{copy.url}"
    source = Source(targets, stack.dir / "srt.log", size=SRT_SIZE, fps=FPS, tone=beeps(FPS, 48000), muxer=["-f", "tee"], coding=h264(FPS)).start()
    await asyncio.sleep(1)
    yield f"srt://127.0.0.1:{port}?latency={SRT_LATENCY}", source.sent, copy.left
    await source.stop()
    copy.close()


@asynccontextmanager
async def rtsp(name):
    yield f"https://alias.invalid/{name}", Clock(), {}


@asynccontextmanager
async def live_hls(stack, web, segment):
    directory = stack.dir / f"live{time.monotonic_ns()}"
    directory.mkdir()
    # A key frame in each segment.
    coding = [*h264(FPS)]
    coding[coding.index("-g") + 1] = str(int(FPS * segment))
    source = Source(
        str(directory / "list.m3u8"), stack.dir / "hls.log", size=SIZE, fps=FPS, tone=beeps(FPS, 48000), coding=coding,
        muxer=["-f", "hls", "-hls_time", str(segment), "-hls_list_size", "6", "-hls_flags", "delete_segments"],
    ).start()
    listed = directory / "list.m3u8"
    begun = lambda: listed.exists() and listed.read_text().count("#EXTINF") >= 4
    await asyncio.to_thread(wait_for, "a playlist of four", 15 + 5 * segment, begun)
    yield f"{web.url}/file/{directory.name}/list.m3u8", source.sent, {}
    await source.stop()


@contextmanager
def running():
    [port] = free_ports(1)
    aliases = ", ".join(f'{name}: "rtsp://127.0.0.1:{port}/{name}"' for name in ("timed", "reordered"))
    stack = Stack(ingress_yaml=f"url_aliases: {{{aliases}}}\n", patient=False)
    web = Web(stack.dir)
    try:
        stack.start()
        stack.start_rtsp(port)
        yield stack, web
    finally:
        web.close()
        stack.stop()


def spread(values):
    """Least, median, 95th percentile and most of some milliseconds."""
    if not values:
        return None
    values = sorted(values)
    return dict(least=round(values[0]), p50=round(statistics.median(values)), p95=round(values[len(values) * 95 // 100]), most=round(values[-1]))


async def watched(stack, name, url, sent, seconds, warm_up, left=None):
    """Pulls `url` and watches it for so long, after `warm_up`. Pictures were made at the times in `sent`, and handed to SRT at those in `left`."""
    async with Ears(stack, name) as viewer:
        begin = time.monotonic()
        info = await stack.create(name, input_type=URL, url=url)
        answered = time.monotonic() - begin
        await viewer.wait("picture", lambda v: v.frames)
        first = viewer.frames[0].at - begin
        await asyncio.sleep(warm_up)
        since = time.monotonic()
        await asyncio.sleep(seconds)
        apart = [o.sound_after_picture_ms for o in viewer.offsets(FPS, since)]
        print([round(x) for x in apart])
        late, over = ([1000 * (f.at - began) for f in viewer.frames if f.at >= since and f.number is not None and (began := of.get(f.number))] for of in (sent, left or {}))
        gap = viewer.longest_gap(since)
        shown = len({f.number for f in viewer.frames if since <= f.at < since + seconds and f.number is not None})
        await stack.delete(info.ingress_id)
    found = dict(answered_s=round(answered, 2), first_picture_s=round(first, 2), beeps=len(apart), sound_after_picture_ms=spread(apart), longest_gap_ms=round(1000 * gap), pictures_a_second=round(shown / seconds, 1))
    if late:
        found["delay_ms"] = spread(late)
    if over:
        found["delay_over_srt_latency_ms"] = spread([ms - SRT_LATENCY for ms in over])
    return found


async def lips(show, seconds, kinds=()):
    """Each kind of source: first picture, sound against picture and, of those that are live, delay."""
    warm_up = 8
    with running() as (stack, web):
        for name in FILES:
            if not kinds or name.split("/")[0].removeprefix("flash.") in kinds:
                clip(stack, name, seconds + warm_up + 2)
                show(f"url {name}", await watched(stack, name.split("/")[0], f"{web.url}/file/{name}", {}, seconds, warm_up))
        lines = {"srt": srt(stack, "pes_payload_size=0"), "srt-clumps": srt(stack), "rtsp": rtsp("timed"), "rtsp-reordered": rtsp("reordered")}
        lines |= {name: live_hls(stack, web, segment) for name, segment in SEGMENTS.items()}
        for name, line in lines.items():
            if not kinds or name in kinds:
                async with line as (url, sent, left):
                    show(f"url {name}", await watched(stack, name, url, sent, seconds, warm_up, left))


async def length(show, seconds):
    """A minute's file, from admission to its end."""
    with running() as (stack, web):
        clip(stack, "flash.mp4", 60)
        async with Ears(stack, "minute") as viewer:
            info = await stack.create("minute", input_type=URL, url=f"{web.url}/file/flash.mp4")
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 90)
            shown = viewer.frames[-1].at - viewer.frames[0].at
    show("url length", dict(file_s=60, complete_after_s=round((state.ended_at - state.started_at) / 1e9, 2), shown_s=round(shown, 2)))


def large(stack):
    """More than 2 GiB that play: eight seconds of noise, over and over."""
    noise = ["-f", "lavfi", "-i", "nullsrc=size=640x360:rate=30,geq=random(1)*255:128:128", "-t", "4"]
    part, whole, raw = stack.dir / "part.mkv", stack.dir / "large.mkv", stack.dir / "noise.yuv"
    subprocess.run([*QUIET, "-y", *noise, "-pix_fmt", "yuv420p", "-f", "rawvideo", str(raw)], check=True)
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "40M", "-minrate", "40M", "-maxrate", "40M", "-bufsize", "10M", "-g", "30"]
    loop = ["-stream_loop", "-1", "-f", "rawvideo", "-s", "640x360", "-r", "30", "-pix_fmt", "yuv420p", "-i", str(raw)]
    subprocess.run([*QUIET, "-y", *loop, *encode, "-t", "8", str(part)], check=True)
    subprocess.run([*QUIET, "-y", "-stream_loop", str((2 << 30) // part.stat().st_size + 1), "-i", str(part), "-c", "copy", str(whole)], check=True)
    return whole


async def memory(show, seconds):
    """A small file and one of 2 GiB, each watched for so long."""
    with running() as (stack, web):
        clip(stack, "flash.mp4", 15)
        show("url memory, idle", dict(pss_mib=round(usage(stack.ingress.pid)["pss"])))
        for name in ("flash.mp4", large(stack).name):
            seen = await grows(stack, name.replace(".", "-"), f"{web.url}/file/{name}", seconds)
            show(f"url memory, {(stack.dir / name).stat().st_size >> 20} MiB", seen)


async def life(show, seconds):
    """Memory and lips of a pull that lasts for so long, by tenths."""
    with running() as (stack, web):
        clip(stack, "flash.mp4", seconds + 5)
        show("url life", await grows(stack, "life", f"{web.url}/file/flash.mp4", seconds))


async def grows(stack, name, url, seconds):
    async with Ears(stack, name) as viewer:
        info = await stack.create(name, input_type=URL, url=url)
        await viewer.wait("picture", lambda v: v.frames)
        start, seen = time.monotonic(), []
        while time.monotonic() < start + seconds:
            await asyncio.sleep(min(10.0, seconds / 10))
            seen.append(round(usage(stack.ingress.pid)["pss"]))
        apart = [o.sound_after_picture_ms for o in viewer.offsets(FPS, start + seconds / 10)]
        await stack.delete(info.ingress_id)
    return dict(seconds=seconds, pss_mib=seen, sound_after_picture_ms=spread(apart))


async def cpu(film, seconds, warm_up):
    """Cores of a pulled film with one viewer, as `density` in bench.py has them for RTMP."""
    with running() as (stack, web):
        (stack.dir / "film.mp4").symlink_to(film)
        async with Ears(stack, "film") as viewer:
            await stack.create("film", input_type=URL, url=f"{web.url}/file/film.mp4")
            await viewer.wait("picture", lambda v: v.frames)
            await asyncio.sleep(warm_up)
            before, begin = usage(stack.ingress.pid), time.monotonic()
            await asyncio.sleep(seconds)
            after, took = usage(stack.ingress.pid), time.monotonic() - begin
    return dict(viewers=1, cores_per_session=round((after["cpu"] - before["cpu"]) / took, 3), pss_mib=round(after["pss"]), processes=after["processes"])
