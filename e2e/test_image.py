"""The image, run as its users run it: read-only, without capabilities, not as root. Only `./x image` runs these: it sets INGRESS_IMAGE and
INGRESS_RUN, the command that runs containers on this machine."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import run
from rig import KEY, SECRET, Push, Source, Stack, Viewer, wait_for
from rig.processes import descendants

IMAGE = os.environ["INGRESS_IMAGE"]
RUN = shlex.split(os.environ["INGRESS_RUN"])
# Of all with no program but its own, as measured: 251 MB. All plugins of GStreamer with what they need would be 904.
MAX_MEGABYTES = 280


def tool(*arguments, check=True):
    """The container tool's answer to a command."""
    return subprocess.run([RUN[0], *arguments], capture_output=True, text=True, timeout=60, check=check)


class Contained(Stack):
    """A deployment whose ingress is a container. `environment` and `arguments` of the container's are given in place of a file."""

    def start_ingress(self, wait=True, name="ingress"):
        self.container = f"ingress-e2e-{self.port['rtmp']}"
        environment, options, arguments = self.settings()
        names = [word for key in environment for word in ("--env", key)]
        command = [*RUN, "--rm", "--name", self.container, *names, *options, IMAGE, *arguments]
        self.ingress = self.program(name, command, environment)
        if wait:
            self.ingress.wait_port(self.port["rtmp"])
            self.wait_available()

    def settings(self):
        """The environment of a container, its options, and its arguments. As most deployments have it: all in one variable."""
        return {"INGRESS_CONFIG_BODY": self.ingress_config()}, [], []

    def inside(self, *command, check=True):
        """Runs a command in the container."""
        return tool("exec", self.container, *command, check=check)

    def main_pid(self):
        return int(tool("inspect", "--format", "{{.State.Pid}}", self.container).stdout)

    def stop(self, keep=False):
        with contextlib.suppress(subprocess.SubprocessError):
            tool("kill", self.container, check=False)  # it removes itself
        super().stop(keep)


class ByFile(Contained):
    """With a file that is mounted, and the secrets in variables of their own."""

    def settings(self):
        secrets = (f"api_key: {KEY}", f"api_secret: {SECRET}", f"ws_url: {self.ingress_ws_url}")
        lines = [line for line in self.ingress_config().splitlines() if line not in secrets]
        self.dir.chmod(0o755)
        file = self.dir / "mounted.yaml"
        file.write_text("\n".join(lines))
        environment = {
            "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET, "LIVEKIT_WS_URL": self.ingress_ws_url,
            "INGRESS_CONFIG_FILE": "/etc/ingress.yaml",
        }
        return environment, ["--volume", f"{file}:/etc/ingress.yaml:ro"], []


@pytest.fixture(scope="module")
def stack():
    for s in run(Contained()):
        yield s.start()


@pytest.fixture
def own_stack():
    yield from run(Contained())


def status(pid):
    """What Linux says of a process, by field."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


async def test_a_push_is_seen_and_nothing_is_privileged(stack):
    """The main job: pictures and sound in a room. Meanwhile neither service nor worker is root, has a capability or can get one, and the
    files of the image can't be written."""
    info = await stack.create("boxed")
    async with Viewer(stack, "boxed") as viewer:
        source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "source.log").start()
        try:
            await viewer.wait_size(1280, 720)
            await viewer.wait_numbers(60)
            await viewer.wait_sound()
            pids = descendants(stack.main_pid())
            assert len(pids) > 1, "no worker"
            for pid in pids:
                seen = status(pid)
                assert set(seen["Uid"].split()) == {"65532"}, seen
                assert {int(seen[field], 16) for field in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, seen
                assert seen["NoNewPrivs"] == "1", seen
            written = stack.inside("sh", "-c", "echo x >/usr/lib/ingress/x", check=False)
            assert written.returncode != 0 and "Read-only file system" in written.stderr
        finally:
            await source.stop()
    await stack.wait_state(info.ingress_id, "INACTIVE")


async def test_health_checks(own_stack):
    """By the program and, as in compose files for the Go ingress, by wget. An ingress whose Redis is away is alive: restarting it would
    only end its sessions (livekit-helm issue 166)."""
    own_stack.start()
    page = f"http://localhost:{own_stack.port['health']}/"

    def alive():
        assert own_stack.inside("ingress", "health").stdout == "Healthy\n"
        assert own_stack.inside("wget", "-q", "-O-", page).stdout == "Healthy"

    alive()
    assert own_stack.inside("ingress", "health", "--available").stdout == "Available\n"
    info = await own_stack.create("alive")
    push = Push(own_stack, f"{own_stack.rtmp_url}/{info.stream_key}", size=(320, 180))
    await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    own_stack.redis.end()
    own_stack.ingress.wait_log("redis", 20)
    alive()
    assert push.running()


async def test_stopping_drains(own_stack):
    """The stop of a container tool is a SIGTERM: the session goes on, and the container ends with 0 when its encoder does."""
    own_stack.start()
    info = await own_stack.create("drained")
    push = Push(own_stack, f"{own_stack.rtmp_url}/{info.stream_key}", size=(320, 180))
    await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    os.kill(own_stack.main_pid(), signal.SIGTERM)
    own_stack.ingress.wait_log("draining")
    assert push.running()
    push.hang_up()
    assert await asyncio.to_thread(own_stack.ingress.wait_exit, 15) == 0


async def test_a_mounted_file_and_secrets_in_variables():
    for stack in run(ByFile()):
        stack.start()
        info = await stack.create("file")
        Push(stack, f"{stack.rtmp_url}/{info.stream_key}", size=(320, 180))
        await stack.wait_state(info.ingress_id, "PUBLISHING", 20)


def test_what_the_image_says_of_itself():
    [seen] = json.loads(tool("image", "inspect", IMAGE).stdout)
    megabytes = seen["Size"] / 1e6
    print(f"size of the image: {megabytes:.0f} MB")
    assert megabytes < MAX_MEGABYTES
    config = seen["Config"]
    assert config["Entrypoint"] == ["ingress"] and config["User"] == "65532:65532"
    assert config["StopSignal"] in ("SIGTERM", "15"), config
    assert {"title", "description", "licenses", "version", "revision"} <= {k.rsplit(".", 1)[-1] for k in config["Labels"]}


def test_packages_and_licences_are_named():
    """Scanners for known faults find the packages, people their licences."""
    listed = subprocess.run(
        [*RUN, "--rm", "--entrypoint", "sh", IMAGE, "-c", "ls /var/lib/dpkg/status.d; cat /usr/share/doc/libx264-*/copyright"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout
    for package in ("gstreamer1.0-libav", "libc6", "libavcodec61", "busybox-static", "gstreamer1.0-plugins-bad"):
        assert f"{package}\n" in listed, package
    assert "GPL-2" in listed


def test_a_start_without_configuration_says_so():
    done = subprocess.run([*RUN, "--rm", IMAGE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78 and "INGRESS_CONFIG_BODY" in done.stderr, done
