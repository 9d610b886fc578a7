"""What pushes: ffmpeg with a test picture of its own, or with numbered frames that tell how late a viewer sees them."""

import asyncio
import signal
import subprocess
import time
from fractions import Fraction

import imageio_ffmpeg

from .picture import strip, strip_height
from .processes import Program

QUIET = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning"]


def ffmpeg9():
    """An FFmpeg that speaks Enhanced RTMP, which the system's may be too old for."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def picture_input(width, height, fps):
    return ["-re", "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}"]


def sound_input(channels=2):
    layout = "stereo" if channels == 2 else "mono"
    # A low tone with a beep every second: never silent, so a level can be told from no sound at any moment.
    tone = "sine=frequency=330:beep_factor=4:sample_rate=48000"
    return ["-re", "-f", "lavfi", "-i", f"{tone},aformat=channel_layouts={layout},volume=4"]


def h264(fps, bitrate="3M"):
    return [
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p",
        "-g", str(round(2 * fps)), "-b:v", bitrate, "-maxrate", bitrate, "-bufsize", bitrate,
    ]


AAC = ["-c:a", "aac", "-b:a", "128k"]


class Push(Program):
    """ffmpeg pushing until it is ended or refused: a test picture, or with `clip` that file over and over as it is."""

    def __init__(self, stack, target, name="push", size=(1280, 720), fps=30, video=True, audio=True, extra=(), clip=None):
        if clip:
            media = ["-re", "-stream_loop", "-1", "-i", clip, "-c", "copy"]
        else:
            media = (picture_input(*size, fps) if video else []) + (sound_input() if audio else [])
            media += (h264(fps) if video else []) + (AAC if audio else [])
        super().__init__(name, [*QUIET, *media, *extra, "-f", "flv", target], stack.dir / f"{name}.log")
        stack.programs.append(self)

    def hang_up(self):
        """Ends as an encoder does when its user presses stop: with a goodbye (SIGINT makes ffmpeg finish the stream)."""
        self.signal(2)
        self.wait_exit(10)


def numbered_input(width, height, fps):
    """Two inputs, the first the strips on standard input, and the filter that makes [v] of them."""
    rows = strip_height(height)
    inputs = [
        "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{rows}", "-r", str(fps), "-probesize", "32", "-i", "pipe:0",
        "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}",
    ]
    return inputs, f"[1:v][0:v]overlay=0:{(height - rows) // 2 // 2 * 2}:shortest=1[v]"


FLV = ("-flvflags", "no_duration_filesize", "-f", "flv")


def numbered_clip(
    path, seconds, size=(320, 180), fps=30, first=0, coding=None, sound=AAC, tone="sine=frequency=330:sample_rate=48000,volume=4", muxer=FLV
):
    """Writes a file of pictures numbered from `first` and a tone; no sound with `sound` empty. It is FLV, as a Feeder takes it,
    unless the options of another `muxer` are given."""
    inputs, overlay = numbered_input(*size, fps)
    if sound:
        inputs += ["-f", "lavfi", "-t", str(seconds), "-i", tone]
        sound = ["-map", "2:a", *sound]
    command = [
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *inputs, "-filter_complex", overlay, "-map", "[v]",
        *(coding or h264(fps)), *sound, *muxer, str(path),
    ]
    strips = b"".join(strip(n, *size).tobytes() for n in range(first, first + round(seconds * Fraction(fps))))
    done = subprocess.run(command, input=strips, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    return path


class Source:
    """ffmpeg pushing a test picture with a strip of numbered frames; `sent` tells when each number was handed to it.

    `program` is another ffmpeg, `coding` and `sound` are its options for pictures and sound, `extra` those of the connection,
    `tone` another input than the usual tone, `muxer` those of another container than FLV."""

    def __init__(
        self, target, log, size=(1280, 720), fps=30, coding=None, sound=AAC, program="ffmpeg", extra=(), tone=None, muxer=("-f", "flv")
    ):
        width, height = size
        self.size, self.fps, self.sent, self.log = size, fps, {}, log
        inputs, overlay = numbered_input(width, height, fps)
        command = [
            program, "-hide_banner", "-loglevel", "warning", *inputs, *(tone or sound_input()),
            "-filter_complex", overlay, "-map", "[v]", "-map", "2:a",
            *(coding or h264(fps)), *sound, "-flush_packets", "1", *extra, *muxer, target,
        ]
        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)
        self.task = None

    def running(self):
        return self.process.poll() is None

    async def run(self, seconds=float("inf")):
        """Feeds frames at their pace; returns when ffmpeg is gone or the time is over."""
        loop, start, number = asyncio.get_running_loop(), time.monotonic(), 0
        while number / self.fps < seconds and self.running():
            frame = strip(number, *self.size).tobytes()
            await asyncio.sleep(max(0.0, start + number / self.fps - time.monotonic()))
            self.sent[number] = time.monotonic()
            try:
                await loop.run_in_executor(None, self._write, frame)
            except (BrokenPipeError, ValueError):  # ffmpeg ended, or `stop` closed the pipe
                return
            if number < 2:
                # Time begins when ffmpeg is connected and reads, as that of its sound does; what waited would make it hold back
                # all that comes after.
                start = time.monotonic() - number / self.fps
            number += 1

    def _write(self, frame):
        self.process.stdin.write(frame)
        self.process.stdin.flush()

    def start(self):
        self.task = asyncio.create_task(self.run())
        return self

    async def stop(self):
        """Ends the stream as an encoder does."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def _end(self):
        if self.running():
            self.process.send_signal(signal.SIGINT)  # finish the stream; its tone would go on for ever
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
