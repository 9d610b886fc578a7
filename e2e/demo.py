"""`./x demo`: the whole thing on this machine, and what a viewer in the room sees of it, once a second.

Ends with Ctrl-C (or after --seconds) and leaves neither processes nor files behind. Anything that does not come up ends it
at once, in words and with the end of the log.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import statistics
import sys
import time
from urllib.parse import urlencode

from rig import Died, Source, Stack, Viewer, status_name

ROOM = "demo"
# The ports people know, as OBS and LiveKit's pages suggest them. Others are taken where these are not free.
KNOWN_PORTS = {"rtmp": 1935, "livekit": 7880, "rtc_tcp": 7881, "whip": 8080}


class Failed(Exception):
    """Something did not come up; the text says what."""


def say(text=""):
    print(text, flush=True)


def arguments():
    p = argparse.ArgumentParser(prog="./x demo", description="The ingress at work on this machine.")
    p.add_argument("--seconds", type=float, help="end by itself after this many seconds of watching")
    p.add_argument("--no-source", action="store_true", help="push nothing: wait for your own encoder")
    return p.parse_args()


def start(stack):
    for name, wanted in KNOWN_PORTS.items():
        if stack.port[name] != wanted:
            say(f"port {wanted} ({name}) is taken, using {stack.port[name]}")
    for name, begin in (("Redis", stack.start_redis), ("livekit-server", stack.start_livekit), ("the ingress", stack.start_ingress)):
        say(f"starting {name}")
        begin()


def introduce(stack, info, source):
    link = "https://meet.livekit.io/custom?" + urlencode(dict(liveKitUrl=stack.ws_url, token=stack.token(ROOM, "you")))
    say()
    say("Push to it with OBS (Settings, Stream, Service: Custom) or any other encoder:")
    say(f"  Server      {info.url}")
    say(f"  Stream Key  {info.stream_key}")
    if source:
        say("  (the test picture has that key now; start with --no-source to use your own encoder)")
    say("Watch it in a browser on this machine:")
    say(f"  {link}")
    say()
    say("What a viewer in the room sees, once a second (Ctrl-C ends):")


def line(viewer, source, since, now, status):
    """What arrived between two moments."""
    frames = [f for f in viewer.frames if since < f.at <= now]
    levels = [level for at, level in viewer.levels if since < at <= now]
    if frames:
        late = viewer.latencies(source.sent, since) if source else []
        delay = f"{statistics.median(late):.0f} ms" if late else "n/a"
        picture = f"{frames[-1].width}x{frames[-1].height}  {len(frames) / (now - since):4.1f} fps  delay {delay}"
    else:
        picture = "no picture"
    sound = "no sound" if not levels else f"sound level {max(levels):.0f}" if max(levels) > 10 else "silence"
    return f"{status:<12}{picture}  {sound}"


async def watch(stack, info, source, seconds):
    """Prints a line a second until `seconds` are over, the source is gone, or the task is cancelled."""
    async with Viewer(stack, ROOM) as viewer:
        begin = since = time.monotonic()
        while seconds is None or since - begin < seconds:
            await asyncio.sleep(1)
            for program in stack.programs:
                if not program.running():
                    raise program.died("ended")
            if source and not source.running():
                raise Failed(f"the test source ended. The end of its log:\n{source.log.read_text()[-2000:]}")
            now = time.monotonic()
            state = (await stack.info(info.ingress_id)).state
            say(line(viewer, source, since, now, status_name(state)) + (f"  ({state.error})" if state.error else ""))
            since = now
            if not viewer.frames and not viewer.levels and source and now - begin > 20:
                raise Failed("nothing arrived in the room within 20 s. The end of the logs:\n" + stack.logs())


async def demo(stack, options):
    info = await stack.create(ROOM, participant_name="Demo")
    source = None
    try:
        if not options.no_source:
            source = Source(f"{info.url}/{info.stream_key}", stack.dir / "source.log").start()
        introduce(stack, info, source)
        await watch(stack, info, source, options.seconds)
    finally:
        if source:
            await source.stop()


async def until_signal(work):
    """Runs `work` until it ends or the user asks for an end (Ctrl-C or SIGTERM)."""
    task, loop = asyncio.create_task(work), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main():
    options = arguments()
    logging.getLogger("livekit").setLevel(logging.ERROR)  # the viewer's own remarks would stand between the lines
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = Stack(ports=KNOWN_PORTS)
    try:
        start(stack)
        asyncio.run(until_signal(demo(stack, options)))
    except (Died, Failed) as e:
        say(f"demo: {e}")
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # an impatient second one would leave half of it running
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    say("ended; nothing was left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
