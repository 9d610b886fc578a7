"""Whether one more session fits: by what sessions here are measured to cost, watched or not, and in words for everyone who asks."""

import asyncio
import re
import subprocess
import time
from pathlib import Path

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Push, Refused, RtmpClient, Stack, Viewer
from rig.processes import cpu_seconds, descendants

CORES = 1.2  # a session of the default encoding, but no second one beside the reserve of 0.18


# What the ingress sees in place of the machine's load and its control group's: it stands still, as on a machine that idles.
IDLE = 'mount --bind "$0" /proc/stat && mount -t tmpfs none /sys/fs/cgroup && exec "$@"'


class Measuring(Stack):
    """With costs that are measured, on a machine that counts as this small and idles, however busy it is with tests."""

    def __init__(self, cores=CORES):
        super().__init__()
        idle = self.dir / "stat"
        idle.write_text(Path("/proc/stat").read_text())
        self.wrap = ("env", f"LIVEKIT_CPU_REQUEST={cores}", "unshare", "--mount", "sh", "-c", IDLE, str(idle))

    def ingress_config(self, ports=None):
        config = super().ingress_config(ports) + "passthrough: never\n"
        return re.sub(r"^cpu_cost: .*$", "cpu_cost: {min_idle_ratio: 0.3}", config, flags=re.M)


@pytest.fixture(scope="module")
def small():
    for s in run(Measuring()):
        yield s.start()


def worker_cpu(stack):
    """Seconds of CPU that the transcoders of the ingress have used."""
    return sum(cpu_seconds(pid) for pid in descendants(stack.ingress.pid)[1:])


async def test_a_session_that_rests_keeps_its_place(small, ended):
    """Nobody watches the first session, so the machine idles; all the same a second one is refused, with the figures."""
    stack = small
    first, second = await stack.create("rests"), await stack.create("comes")
    push = ended(Push(stack, f"{stack.rtmp_url}/{first.stream_key}"))
    await stack.wait_state(first.ingress_id, "PUBLISHING")
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect()
        with pytest.raises(Refused) as refusal:
            client.publish(second.stream_key)
    words = r"this machine is full: an RTMP session needs 0\.\d\d cores, and 0\.\d\d of 1\.2 are free besides the 0\.18 that stay idle"
    assert re.search(words, refusal.value.description), refusal.value.description
    state = await stack.wait_state(second.ingress_id, "ERROR")
    assert re.search(words, state.error), state.error
    stack.ingress.wait_log("this machine is full")
    assert stack.get("health", "/availability")[0] == 503 and stack.metric("livekit_ingress_available") == 0
    # livekit-server finds no ingress for a URL either.
    async with stack.api() as lk:
        with pytest.raises(Exception) as nobody:
            request = pb.CreateIngressRequest(input_type=pb.IngressInput.URL_INPUT, room_name="url", participant_identity="u", url="http://127.0.0.1:9/a.mp4")
            await lk.ingress.create_ingress(request)
    assert "response" in str(nobody.value).lower() or "unavailable" in str(nobody.value).lower(), nobody.value
    push.hang_up()
    await stack.wait_state(first.ingress_id, "INACTIVE")
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect()
        client.publish(second.stream_key)


async def test_a_session_counts_with_what_it_uses(small, ended):
    """A grey picture costs less than others of its size: ten seconds after viewers see all of it, that is what is committed for it."""
    stack = small
    clip = stack.dir / "grey.flv"
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
    make = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "color=gray:1280x720:30", "-t", "20", *coding, str(clip)]
    subprocess.run(make, check=True)
    info = await stack.create("used")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", clip=clip))
    async with Viewer(stack, "used") as viewer:
        await viewer.wait_size(1280, 720)
        expected = stack.metric("ingress_committed_cores")
        before, began = worker_cpu(stack), time.monotonic()
        await asyncio.sleep(12)
        used = (worker_cpu(stack) - before) / (time.monotonic() - began)
        committed = stack.metric("ingress_committed_cores")
    # What this process does for it, 0.05, counts as well.
    assert expected > 0.5 and used < 0.4, (expected, used)
    assert abs(committed - 0.05 - used) < 0.1, (used, committed)
