"""Redis, livekit-server and the ingress, started for one purpose and ended after it."""

import asyncio
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from livekit import api
from livekit.protocol import ingress as pb

from .processes import Program, free_ports

KEY, SECRET = "devkey", "secretsecretsecretsecretsecret12"
PORT_NAMES = ("redis", "livekit", "rtc_tcp", "rtc_udp", "rtmp", "whip", "relay", "health", "prometheus", "whip_udp", "rtmps")

PREFIX = "ENDPOINT_"  # of every status in the API; left out here


# A livekit-server that takes a machine which is busy with tests for what it is, so that viewers get the layers they ask for. As it comes,
# it drops a medium or high layer that brings fewer than 5 packets in half a second, for the next 10 s at the least (read in its packet
# tracker, and seen on a starved machine). Its congestion control is as it comes: what the ingress sends has to stand it.
PATIENCE_VIDEO = """
video:
  stream_tracker_manager:
    video:
      packet_tracker:
        0: {samples_required: 1, cycles_required: 1, cycle_duration: 2s}
        1: {samples_required: 1, cycles_required: 1, cycle_duration: 2s}
        2: {samples_required: 1, cycles_required: 1, cycle_duration: 2s}
"""
# 1.9.11 knows that key, 1.7.2 does not.
PATIENCE_SINCE = (1, 9)


def status_name(state):
    """BUFFERING, PUBLISHING, INACTIVE, COMPLETE or ERROR."""
    return pb.IngressState.Status.Name(state.status).removeprefix(PREFIX)


def ingress_binary():
    path = os.environ.get("INGRESS_BIN", "target/debug/ingress")
    if not Path(path).exists():
        raise RuntimeError(f"no ingress at {path}: run this through ./x, which builds it")
    return os.path.abspath(path)


def livekit_binary():
    path = os.environ.get("LIVEKIT_SERVER") or shutil.which("livekit-server")
    if not path:
        raise RuntimeError("no livekit-server: run this through ./x, which installs it")
    return path


@functools.cache
def livekit_version():
    """Of livekit-server, as numbers: (1, 13, 5)."""
    said = subprocess.run([livekit_binary(), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", said).groups())


class Stack:
    """What a deployment consists of. Nothing runs until it is started; `stop` ends what was and removes the directory.

    `patient` gives livekit-server settings for busy machines; without it, it is as it comes. `wrap` is what the ingress is
    started through, such as prlimit."""

    def __init__(self, ingress_yaml="", webhook=None, ports=None, patient=True, wrap=()):
        self.dir = Path(tempfile.mkdtemp(prefix="ingress-e2e-"))
        wanted = [(ports or {}).get(name) for name in PORT_NAMES]
        self.port = dict(zip(PORT_NAMES, free_ports(len(PORT_NAMES), wanted)))
        self.ingress_yaml, self.webhook, self.patient, self.wrap = ingress_yaml, webhook, patient, wrap
        self.tcp_only = False  # a livekit-server that takes media over TCP alone
        self.quick = False  # a patient livekit-server that drops a layer as soon as others do
        self.programs = []
        self.starved = []  # tracks of which viewers got nothing
        self.redis = self.livekit = self.ingress = None
        self.http_url = f"http://127.0.0.1:{self.port['livekit']}"
        self.ws_url = f"ws://127.0.0.1:{self.port['livekit']}"
        self.ingress_host = "127.0.0.1"  # where we find the ingress
        self.ingress_ws_url = self.ws_url  # where the ingress finds livekit-server; viewers never go by another way
        self.rtmp_url = f"rtmp://127.0.0.1:{self.port['rtmp']}/live"
        self.whip_url = f"http://127.0.0.1:{self.port['whip']}/w"

    # starting and ending --------------------------------------------------------------------------------------------------

    def program(self, name, command, env=None):
        p = Program(name, command, self.dir / f"{name}.log", env)
        self.programs.append(p)
        return p

    def start(self):
        self.start_redis()
        self.start_livekit()
        self.start_ingress()
        return self

    def start_redis(self):
        """Redis with a disk: one that comes back knows what it knew, as in a deployment."""
        port = self.port["redis"]
        options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir", self.dir]
        self.redis = self.program("redis", ["redis-server", *options])
        self.redis.wait_port(port)

    def start_livekit(self):
        config = self.dir / "livekit.yaml"
        config.write_text(self.livekit_config())
        self.livekit = self.program("livekit", [livekit_binary(), "--config", config])
        self.livekit.wait_port(self.port["livekit"])

    def livekit_config(self):
        p = self.port
        hook = f'webhook: {{api_key: {KEY}, urls: ["{self.webhook}"]}}' if self.webhook else ""
        return f"""
port: {p["livekit"]}
bind_addresses: ["127.0.0.1"]
redis: {{address: "127.0.0.1:{p["redis"]}"}}
keys: {{{KEY}: {SECRET}}}
rtc:
  tcp_port: {p["rtc_tcp"]}
  udp_port: {p["rtc_udp"]}
  use_external_ip: false
  enable_loopback_candidate: true
  node_ip: 127.0.0.1
  interfaces: {{includes: [lo]}}
{"  force_tcp: true" if self.tcp_only else ""}
room: {{enable_remote_unmute: true}}
ingress:
  rtmp_base_url: {self.rtmp_url}
  whip_base_url: http://127.0.0.1:{p["whip"]}/w
logging: {{level: info, json: true}}
{PATIENCE_VIDEO if self.patient and not self.quick and livekit_version() >= PATIENCE_SINCE else ""}
{hook}
"""

    def ingress_config(self, ports=None):
        p = ports or self.port
        return f"""
api_key: {KEY}
api_secret: {SECRET}
ws_url: {self.ingress_ws_url}
redis: {{address: "127.0.0.1:{p["redis"]}"}}
bind_address: 127.0.0.1
rtmp_port: {p["rtmp"]}
whip_port: {p["whip"]}
http_relay_port: {p["relay"]}
health_port: {p["health"]}
prometheus_port: {p["prometheus"]}
logging: {{level: info, json: true}}
rtc_config:
  udp_port: {p["whip_udp"]}
  tcp_port: {p["whip_udp"]}
  use_external_ip: false
  enable_loopback_candidate: true
  node_ip: 127.0.0.1
  interfaces: {{includes: [lo]}}
# So cheap that the load of the tests themselves never makes the ingress refuse.
cpu_cost: {{rtmp_cpu_cost: 0, whip_cpu_cost: 0, whip_bypass_transcoding_cpu_cost: 0, url_cpu_cost: 0, min_idle_ratio: 0.01}}
# A system call that a worker's work needs and its filter lacks shows as a failure.
{"" if "confinement:" in self.ingress_yaml else "confinement: require"}
{self.ingress_yaml}
"""

    def start_ingress(self, wait=True, name="ingress"):
        """Starts the ingress; with `wait`, until it says that it takes sessions."""
        config = self.dir / f"{name}.yaml"
        config.write_text(self.ingress_config())
        self.ingress = self.program(name, [*self.wrap, ingress_binary(), "--config", config])
        if wait:
            self.ingress.wait_port(self.port["rtmp"], host=self.ingress_host.strip("[]"))
            self.wait_available()

    def start_rtsp(self, port, *more, name="rtsp"):
        """An RTSP server (rtsp_server.py), by the Python that GStreamer's bindings are for; `more` as it is explained there."""
        server = self.program(name, ["/usr/bin/python3", Path(__file__).with_name("rtsp_server.py"), str(port), *more])
        server.wait_port(port)
        return server

    def start_another(self, name="another"):
        """A second ingress beside the first, behind the same Redis. Gives the program and its ports by name."""
        names = ("rtmp", "whip", "relay", "health", "prometheus", "whip_udp")
        ports = {**self.port, **dict(zip(names, free_ports(len(names))))}
        config = self.dir / f"{name}.yaml"
        config.write_text(self.ingress_config(ports))
        program = self.program(name, [ingress_binary(), "--config", config])
        program.wait_port(ports["whip"])
        program.wait_log('"ready"', 20)
        return program, ports

    def wait_available(self, seconds=20):
        end = time.monotonic() + seconds
        while (got := self.get("health", "/availability"))[0] != 200:
            if time.monotonic() > end:
                raise self.ingress.died(f"is not available after {seconds} s (/availability says {got})")
            time.sleep(0.05)

    def stop(self, keep=False):
        """Ends everything, newest first. The directory with the logs is removed unless `keep`."""
        if self.ingress and self.ingress.running():
            self.ingress.signal(signal.SIGINT)  # SIGTERM would wait for running sessions
            with contextlib.suppress(RuntimeError):
                self.ingress.wait_exit(5)
        for p in reversed(self.programs):
            p.kill()  # nothing here has anything to save, and livekit-server may take 5 s to go by itself
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    # what it says ---------------------------------------------------------------------------------------------------------

    def get(self, port, path="/", timeout=5):
        """(HTTP status, body) of a GET from one of the ingress's ports; (0, why) if nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{self.ingress_host}:{self.port[port]}{path}", timeout=timeout) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError as e:
            return 0, str(e)

    def metric(self, name, **labels):
        """The sum of the samples of this name that have all these labels; 0 if there are none."""
        found = 0.0
        for line in self.get("prometheus", "/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{k}="{v}"' in sample for k, v in labels.items()):
                found += float(value)
        return found

    def logs(self):
        """The end of the logs: more of the ingress's than of the others'."""
        return "\n".join(f"--- {p.log}\n{p.tail(30 if p is self.ingress else 5)}" for p in self.programs if p.log.exists())

    # the API --------------------------------------------------------------------------------------------------------------

    def api(self):
        return api.LiveKitAPI(self.http_url, KEY, SECRET)

    def token(self, room, identity):
        grants = api.VideoGrants(room_join=True, room=room)
        return api.AccessToken(KEY, SECRET).with_identity(identity).with_grants(grants).to_jwt()

    async def create(self, room, input_type=pb.IngressInput.RTMP_INPUT, **fields):
        """Creates an ingress into `room`; its participant is "<room>-pub" unless told otherwise."""
        fields.setdefault("name", room)
        fields.setdefault("participant_identity", f"{room}-pub")
        async with self.api() as lk:
            return await lk.ingress.create_ingress(pb.CreateIngressRequest(input_type=input_type, room_name=room, **fields))

    async def delete(self, ingress_id):
        """Deletes an ingress, whatever it is doing."""
        async with self.api() as lk:
            await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=ingress_id))

    async def info(self, ingress_id):
        """The stored ingress, or None if there is none of that id."""
        async with self.api() as lk:
            try:
                items = (await lk.ingress.list_ingress(pb.ListIngressRequest(ingress_id=ingress_id))).items
            except api.TwirpError as e:
                if e.code == api.TwirpErrorCode.NOT_FOUND:
                    return None
                raise
            return items[0] if items else None

    async def wait_state(self, ingress_id, status, seconds=15):
        """Waits until the stored state has `status` (a name); returns the state."""
        end, state = time.monotonic() + seconds, None
        async with self.api() as lk:
            while time.monotonic() < end:
                items = (await lk.ingress.list_ingress(pb.ListIngressRequest(ingress_id=ingress_id))).items
                state = items[0].state if items else None
                if state is not None and status_name(state) == status:
                    return state
                await asyncio.sleep(0.05)
        now = f"{status_name(state)} {state.error!r}" if state is not None else "no such ingress"
        raise AssertionError(f"{ingress_id} is not {status} after {seconds} s, but: {now}")

    async def participant(self, room, identity):
        """The participant as the server sees it, or None."""
        async with self.api() as lk:
            everyone = (await lk.room.list_participants(api.ListParticipantsRequest(room=room))).participants
            return next((p for p in everyone if p.identity == identity), None)

    async def wait_participant(self, room, identity, here=True, seconds=10, tracks=0):
        """Waits until the participant is in the room with at least `tracks` tracks, or is not there."""
        end = time.monotonic() + seconds
        while True:
            found = await self.participant(room, identity)
            if (found is not None and len(found.tracks) >= tracks) if here else found is None:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"{identity} {'did not come into' if here else 'is still in'} {room} after {seconds} s: {found}")
            await asyncio.sleep(0.05)
