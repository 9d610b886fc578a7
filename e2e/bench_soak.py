"""`./x bench --soak`: streams come and go on all inputs while things fail, and nothing may become more and more of it.

In turns: some traffic, with a failure every few seconds; then nothing, until all has settled, and a look at what the service holds. What it
holds then is the same each time, but for a leak. Three sessions at a time: it runs on two cores.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import random
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from livekit import api
from livekit.protocol import ingress as pb

from rig import Push, Refused, RtmpClient, Stack, Viewer, free_ports, status_name
from rig.certificates import certify
from rig.flood import garbage
from rig.leaks import Sample, figures, judge
from rig.processes import descendants
from rig.pulls import AAC, FAST, H264, URL, make, srt_sender
from rig.uplink import Uplink
from rig.web import Web
from rig.whip import SDP, Whip, ask

WHIP = pb.IngressInput.WHIP_INPUT
SIZE, FPS = (320, 180), 15
AT_ONCE = 3
SECONDS = (4, 9)  # how long a source goes on once it publishes
TRAFFIC = 45  # seconds of it in a turn
SETTLED = 15  # seconds after which nothing is left of strangers: they have ten to say what they want
FAILURE_EVERY = 5
SAMPLE_EVERY = 5
STORED_BY = 75  # seconds in which an end is stored, whatever fails meanwhile: a session waits a minute for the SFU
FINAL = ("INACTIVE", "ERROR", "COMPLETE")


class Quick(Stack):
    """A livekit-server that forgets rooms at once."""

    def livekit_config(self):
        return super().livekit_config().replace("room: {", "room: {empty_timeout: 1, departure_timeout: 1, ")


# sources --------------------------------------------------------------------------------------------------------------------


class Pushed:
    """ffmpeg over RTMP. A source has `fields` for its ingress, `start` once that is there, `stop` in order and `kill` without a word."""

    fields, scheme = {}, "rtmp"

    def __init__(self, soak, name):
        self.soak, self.name, self.program = soak, name, None

    async def start(self, info):
        target = f"{self.scheme}://127.0.0.1:{self.soak.stack.port[self.scheme]}/live/{info.stream_key}"
        self.program = Push(self.soak.stack, target, self.name, SIZE, FPS)

    async def stop(self):
        self.program.signal(signal.SIGINT)
        with contextlib.suppress(RuntimeError):
            await asyncio.to_thread(self.program.wait_exit, 5)

    async def kill(self):
        if self.program:
            self.program.kill()
            if self.program in self.soak.stack.programs:
                self.soak.stack.programs.remove(self.program)


class PushedTls(Pushed):
    scheme = "rtmps"


class Offered:
    """aiortc over WHIP, passed through."""

    fields = dict(input_type=WHIP, enable_transcoding=False)

    def __init__(self, soak, name):
        self.soak, self.client = soak, None

    async def start(self, info):
        self.client = await Whip(self.soak.stack.whip_url, info.stream_key, SIZE, FPS).__aenter__()
        if self.client.answer.status != 201:
            raise Refused(self.client.answer.status, self.client.answer.body)

    async def stop(self):
        await self.client.delete()

    async def kill(self):
        if self.client:
            await self.client.__aexit__()


class Transcoded(Offered):
    fields = dict(input_type=WHIP, enable_transcoding=True)


class Pulled:
    """A file over HTTP: it comes to its end by itself."""

    path = "film.mp4"

    def __init__(self, soak, name):
        self.fields = dict(input_type=URL, url=f"{soak.web.url}/file/{self.path}")

    async def start(self, info):
        pass

    stop = kill = lambda self: asyncio.sleep(0)


class PulledHls(Pulled):
    path = "hls/list.m3u8"


class PulledWhole(Pulled):
    """One that has to be on disk whole."""

    path = "late.mp4"

    def __init__(self, soak, name):
        self.fields = dict(input_type=URL, url=f"{soak.web.url}/plain/{self.path}")


class Camera(Pulled):
    """RTSP, which goes on for ever."""

    def __init__(self, soak, name):
        self.fields = dict(input_type=URL, url="https://alias.invalid/camera")


class Called(Pushed):
    """SRT that is called."""

    def __init__(self, soak, name):
        super().__init__(soak, name)
        [port] = free_ports(1)
        self.program = srt_sender(soak.stack, f"srt://127.0.0.1:{port}?mode=listener", name)
        soak.stack.programs.append(self.program)
        self.fields = dict(input_type=URL, url=f"srt://127.0.0.1:{port}?mode=caller")

    async def start(self, info):
        pass


SOURCES = {
    "rtmp": Pushed, "rtmps": PushedTls, "whip": Offered, "whip transcoded": Transcoded, "file": Pulled, "whole file": PulledWhole,
    "hls": PulledHls, "rtsp": Camera, "srt": Called,
}
# How a session ends, and how often of ten times.
ENDS = {"stop": 5, "kill": 2, "delete": 2, "remove": 1}


# the run --------------------------------------------------------------------------------------------------------------------


class Soak:
    """One run. `ended` counts how sessions have ended, `faults` are what must not be, in words."""

    def __init__(self, show, minutes, seed):
        self.show, self.seconds, self.dice = show, minutes * 60, random.Random(seed)
        self.stack = self.uplink = self.web = None
        self.samples, self.ended, self.texts, self.happened, self.faults = [], Counter(), Counter(), Counter(), []
        self.began, self.numbers, self.quiet = time.monotonic(), itertools.count(), False

    @contextlib.asynccontextmanager
    async def running(self):
        [camera] = free_ports(1)
        self.stack = stack = Quick(f"url_aliases: {{camera: 'rtsp://127.0.0.1:{camera}/live'}}\nrtmps_cert_file: CERT\nrtmps_key_file: KEY\n")
        cert, key = stack.dir / "tls.pem", stack.dir / "tls.key"
        certify(cert, key, "e2e")
        stack.ingress_yaml = stack.ingress_yaml.replace("CERT", str(cert)).replace("KEY", str(key)) + f"rtmps_port: {stack.port['rtmps']}\n"
        self.web = Web(stack.dir)
        try:
            make(stack, "film.mp4", *H264, *AAC, *FAST, seconds=6, rate=FPS)
            make(stack, "late.mp4", *H264, *AAC, seconds=6, rate=FPS)
            make(stack, "hls/list.m3u8", *H264, *AAC, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", seconds=6, rate=FPS)
            stack.start_redis()
            stack.start_livekit()
            stack.start_rtsp(camera)
            async with Uplink(stack) as self.uplink:
                stack.start_ingress()
                yield
        finally:
            self.web.close()
            stack.stop()

    async def api(self, call):
        """What livekit-server answers; it is asked again while Redis is away, which it can't do without."""
        end = time.monotonic() + 30
        while True:
            try:
                return await call()
            except api.TwirpError as e:
                if e.code == "not_found" or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.5)

    # sessions ---------------------------------------------------------------------------------------------------------------

    async def session(self, kind):
        name = f"{kind.replace(' ', '-')}-{next(self.numbers)}"
        source, info, how = SOURCES[kind](self, name), None, "not begun"
        viewer = Viewer(self.stack, name) if self.dice.random() < 0.5 else contextlib.nullcontext()
        try:
            info = await self.api(lambda: self.stack.create(name, **source.fields))
            async with viewer:
                await source.start(info)
                await self.api(lambda: self.stack.wait_state(info.ingress_id, "PUBLISHING", 25))
                how = await self.end(source, info, name)
        except (AssertionError, Refused, OSError, api.TwirpError) as e:
            # Failures are made for this: only what it leaves behind counts.
            self.texts[f"{kind}: {type(e).__name__}: {str(e).splitlines()[0][:100]}"] += 1
        finally:
            await source.kill()
            if info is not None:
                self.ended[kind, how, await self.stored(info, name)] += 1
            for file in self.stack.dir.glob(f"{name}*.log"):
                file.unlink()

    async def end(self, source, info, room):
        await asyncio.sleep(self.dice.uniform(*SECONDS))
        how = self.dice.choices([*ENDS], [*ENDS.values()])[0]
        if isinstance(source, Camera) and how in ("stop", "kill"):
            how = "delete"
        if how == "delete":
            await self.api(lambda: self.stack.delete(info.ingress_id))
        elif how == "remove":
            async with self.stack.api() as lk:
                with contextlib.suppress(api.TwirpError):
                    await lk.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=f"{room}-pub"))
        else:
            await (source.stop() if how == "stop" else source.kill())
        return how

    async def stored(self, info, name):
        """The last status that the API tells; then the ingress is deleted."""
        end, status = time.monotonic() + STORED_BY, "no such ingress"
        try:
            while (found := await self.api(lambda: self.stack.info(info.ingress_id))) is not None:
                status = status_name(found.state)
                if status in FINAL:
                    self.texts[f"stored: {found.state.error[:100]}"] += bool(found.state.error)
                    break
                if time.monotonic() > end:
                    if found.state.resource_id:
                        self.faults.append(f"{name} is {status} {STORED_BY} s after its source is gone")
                    break
                await asyncio.sleep(0.5)
            if found is not None:
                await self.api(lambda: self.stack.delete(info.ingress_id))
        except api.TwirpError as e:
            if e.code != "not_found":
                self.faults.append(f"{name}: livekit-server says {e.code}: {e.message}")
        return status

    async def traffic(self, seconds):
        """Sessions, `AT_ONCE` at a time, for so long; returns once the last has ended."""
        until = time.monotonic() + seconds

        async def lane():
            while time.monotonic() < until:
                await self.session(next(self.kinds))

        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))

    # failures ---------------------------------------------------------------------------------------------------------------

    async def a_worker_is_killed(self):
        workers = descendants(self.stack.ingress.pid)[1:]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(workers), signal.SIGKILL)

    async def signalling_is_cut(self):
        self.uplink.cut()

    async def media_is_blocked(self):
        self.uplink.blocked = True
        await asyncio.sleep(2)
        self.uplink.blocked = False

    async def redis_restarts(self):
        await asyncio.to_thread(self.stack.redis.end)
        self.stack.programs.remove(self.stack.redis)
        await asyncio.sleep(self.dice.uniform(0, 2))
        await asyncio.to_thread(self.stack.start_redis)

    async def wrong_keys(self):
        def push(key):
            with contextlib.suppress(Refused, OSError), RtmpClient(self.stack.port["rtmp"]) as client:
                client.connect()
                client.publish(key)

        for n in range(3):
            await asyncio.to_thread(push, f"nosuchkey{n}{self.dice.random()}")
            with contextlib.suppress(OSError):
                await ask("POST", self.stack.whip_url, "x", {**SDP, "Authorization": f"Bearer nosuchkey{n}{self.dice.random()}"})

    async def garbage_comes(self):
        ports = [self.stack.port[name] for name in ("rtmp", "rtmps", "whip", "health")]
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            await asyncio.get_running_loop().run_in_executor(process, garbage, ports, 60, 2)

    async def silence_comes(self):
        with contextlib.ExitStack() as connections:
            for port in ("rtmp", "rtmps", "whip") * 10:
                connections.enter_context(socket.create_connection(("127.0.0.1", self.stack.port[port]), 5))
            await asyncio.sleep(4)

    async def failures(self):
        """One after the other, for ever."""
        kinds = [
            self.a_worker_is_killed, self.signalling_is_cut, self.wrong_keys, self.garbage_comes, self.redis_restarts, self.silence_comes,
            self.media_is_blocked,
        ]
        for fail in itertools.cycle(kinds):
            await asyncio.sleep(FAILURE_EVERY)
            self.happened[fail.__name__] += 1
            await fail()

    # looking ----------------------------------------------------------------------------------------------------------------

    async def sample(self):
        found = await asyncio.to_thread(figures, self.stack)
        self.samples.append(Sample(time.monotonic() - self.began, self.quiet, found))

    async def sampling(self):
        while True:
            await asyncio.sleep(SAMPLE_EVERY)
            if not self.quiet:
                with contextlib.suppress(OSError, StopIteration):  # a worker that ends meanwhile
                    await self.sample()

    async def settle(self):
        """Waits until nothing is left of the traffic, and looks."""
        await asyncio.sleep(SETTLED)
        self.uplink.forget()
        self.quiet = True
        await self.sample()
        self.quiet = False
        self.show("quiet", {name: round(value, 1) for name, value in self.samples[-1].figures.items()})

    async def turn(self):
        failing = asyncio.create_task(self.failures())
        try:
            await self.traffic(min(TRAFFIC, self.seconds / 6))
        finally:
            failing.cancel()
            result = (await asyncio.gather(failing, return_exceptions=True))[0]
        self.uplink.blocked = False
        if not self.stack.redis.running():
            await asyncio.to_thread(self.stack.start_redis)
        if not isinstance(result, asyncio.CancelledError):
            raise result
        await self.settle()

    async def run(self):
        order = [*SOURCES]
        self.dice.shuffle(order)
        self.kinds = itertools.cycle(order)
        async with self.running():
            sampling = asyncio.create_task(self.sampling())
            await self.settle()
            while time.monotonic() < self.began + self.seconds and self.stack.ingress.running():
                await self.turn()
            sampling.cancel()
            if not self.stack.ingress.running():
                self.faults.append(self.stack.ingress.died("is gone").args[0])
        return self.verdict()

    def verdict(self):
        quiet = sum(s.quiet for s in self.samples)
        lines, leaks = judge(self.samples, max(1, quiet // 4))
        for name, line in lines.items():
            self.show(name, line)
        published = {kind for kind, how, _ in self.ended if how != "not begun"}
        self.faults += [f"no {kind} session has published" for kind in SOURCES if kind not in published]
        self.show("sessions", {f"{kind}, {how}: {status}": count for (kind, how, status), count in sorted(self.ended.items())})
        self.show("failures", dict(self.happened))
        self.show("words", dict(self.texts.most_common()))
        self.show("verdict", dict(
            minutes=round((time.monotonic() - self.began) / 60, 1), sessions=sum(self.ended.values()), turns=quiet - 1, leaks=leaks, faults=self.faults))
        return not leaks and not self.faults


async def soak(show, minutes, seed=1):
    """Runs for so long, and shows what it finds. Whether all is well."""
    return await Soak(show, minutes, seed).run()
