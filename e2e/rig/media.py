"""What pushes: ffmpeg with a test picture of its own, or with numbered frames that tell how late a viewer sees them."""

import asyncio
import subprocess
import time

from .picture import strip, strip_height
from .processes import Program

QUIET = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning"]


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
        "-g", str(2 * fps), "-b:v", bitrate, "-maxrate", bitrate, "-bufsize", bitrate,
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


class Source:
    """ffmpeg pushing a test picture with a strip of numbered frames; `sent` tells when each number was handed to it."""

    def __init__(self, target, log, size=(1280, 720), fps=30, coding=None):
        width, height = size
        self.size, self.fps, self.sent, self.log = size, fps, {}, log
        rows = strip_height(height)
        command = [
            "ffmpeg", "-hide_banner", "-loglevel", "warning",
            "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{rows}", "-r", str(fps), "-probesize", "32", "-i", "pipe:0",
            "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}",
            *sound_input(),
            "-filter_complex", f"[1:v][0:v]overlay=0:{(height - rows) // 2 // 2 * 2}:shortest=1[v]", "-map", "[v]", "-map", "2:a",
            *(coding or h264(fps)), *AAC, "-flush_packets", "1", "-f", "flv", target,
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
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
