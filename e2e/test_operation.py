"""Starting, stopping and being looked at: what an operator meets."""

import asyncio
import os
import re
import signal
import subprocess

import pytest

from rig import KEY, Push, Refused, Reports, RtmpClient, wait_for
from rig.processes import descendants
from rig.stack import ingress_binary


def push(stack, info, name="push"):
    return Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=name, size=(320, 180))


def publish_by_hand(stack, key):
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect()
        return client.publish(key)


async def publishing(stack, room):
    info = await stack.create(room)
    encoder = push(stack, info, f"push-{room}")
    await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    return info, encoder


# parts that are away --------------------------------------------------------------------------------------------------------


async def test_redis_starts_after_the_ingress(own_stack):
    own_stack.start_ingress(wait=False)
    own_stack.ingress.wait_log("redis")
    assert own_stack.ingress.running()
    own_stack.start_redis()
    own_stack.start_livekit()
    own_stack.wait_available()
    await publishing(own_stack, "late")


async def test_redis_restarts(own_stack):
    own_stack.start()
    info, encoder = await publishing(own_stack, "before")
    own_stack.redis.end()
    with pytest.raises(Refused) as refusal:
        await asyncio.to_thread(publish_by_hand, own_stack, "anykey1234")
    assert "does not answer" in refusal.value.description
    assert str(own_stack.port["redis"]) not in refusal.value.description, "an address for strangers"
    assert encoder.running(), "media needs no Redis"
    own_stack.start_redis()
    own_stack.wait_available()
    assert encoder.running()
    await own_stack.wait_participant("before", "before-pub")
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    await publishing(own_stack, "after")


async def test_livekit_server_is_away(own_stack):
    """A publish is refused in words; once livekit-server is back the next one works, and the ingress was never restarted."""
    own_stack.start()
    info = await own_stack.create("away")
    own_stack.livekit.kill()
    # Its successor takes it for alive for 5 s (read in livekit-server's choice of nodes), and could give it the room.
    subprocess.run(["redis-cli", "-p", str(own_stack.port["redis"]), "del", "nodes"], check=True, capture_output=True)
    with pytest.raises(Refused) as refusal:
        await asyncio.to_thread(publish_by_hand, own_stack, info.stream_key)
    assert refusal.value.code == "NetStream.Publish.Failed"
    assert "livekit" in refusal.value.description.lower()
    for port in ("redis", "livekit"):
        assert str(own_stack.port[port]) not in refusal.value.description, "an address for strangers"
    own_stack.ingress.wait_log(f"(ours: Redis at 127.0.0.1:{own_stack.port['redis']})")
    own_stack.start_livekit()
    own_stack.wait_available()
    push(own_stack, info)
    await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)


# configuration --------------------------------------------------------------------------------------------------------------

BROKEN = """
api_key: {key}
ws_url: "not a url"
redis: {{}}
rtmp_port: 70000
health_port: many
cpu_cost: {{min_idle_ratio: seven}}
"""
# Every key above that is wrong or missing must be named, all at once.
FAULTS = ["api_secret", "ws_url", "redis", "rtmp_port", "health_port", "min_idle_ratio"]


def run_ingress(*arguments):
    # No LIVEKIT_… of ours may fill a gap that a test wants to see.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_API", "LIVEKIT_WS", "INGRESS_CONFIG"))}
    done = subprocess.run([ingress_binary(), *arguments], capture_output=True, text=True, timeout=30, env=env, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", [[], ["check-config"]], ids=["serve", "check-config"])
def test_every_configuration_fault_is_named(tmp_path, command):
    config = tmp_path / "broken.yaml"
    config.write_text(BROKEN.format(key=KEY))
    code, said = run_ingress(*command, "--config", str(config))
    assert code not in (0, -signal.SIGSEGV), said
    assert [fault for fault in FAULTS if fault not in said] == [], said


def test_a_valid_configuration_passes_check_config(own_stack):
    config = own_stack.dir / "good.yaml"
    config.write_text(own_stack.ingress_config())
    code, said = run_ingress("check-config", "--config", str(config))
    assert code == 0, said


@pytest.mark.parametrize("arguments,words", [([], "--config"), (["--config", "no-such-file.yaml"], "no-such-file.yaml")])
def test_a_missing_configuration_is_named(arguments, words):
    code, said = run_ingress(*arguments)
    assert code != 0 and words in said, said


def test_a_taken_port_is_named(own_stack):
    own_stack.start_redis()
    own_stack.start_livekit()
    own_stack.start_ingress()
    first, port = own_stack.ingress, own_stack.port["rtmp"]
    own_stack.start_ingress(wait=False, name="second")
    second, own_stack.ingress = own_stack.ingress, first
    assert second.wait_exit(15) != 0
    assert str(port) in second.text()


# ending ---------------------------------------------------------------------------------------------------------------------


async def test_sigterm_waits_for_the_sessions(own_stack):
    own_stack.start()
    info, encoder = await publishing(own_stack, "drain")
    other = await own_stack.create("other")
    own_stack.ingress.signal(signal.SIGTERM)
    wait_for("/availability 503", 5, lambda: own_stack.get("health", "/availability")[0] == 503)
    assert own_stack.get("health", "/")[0] == 200
    with pytest.raises(Refused) as refusal:
        await asyncio.to_thread(publish_by_hand, own_stack, other.stream_key)
    assert "shutting down" in refusal.value.description.lower()
    await asyncio.sleep(2)
    assert own_stack.ingress.running() and encoder.running()
    await own_stack.wait_state(info.ingress_id, "PUBLISHING", 1)
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    assert await asyncio.to_thread(own_stack.ingress.wait_exit, 15) == 0


@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGTERM", "SIGTERM"], ["SIGTERM", "SIGINT"]], ids="-".join)
async def test_a_second_signal_ends_at_once(own_stack, signals):
    """SIGINT, or a second signal: sessions end now, their end is reported, and no process stays."""
    own_stack.start()
    reports = Reports(own_stack)
    info, encoder = await publishing(own_stack, "now")
    family = descendants(own_stack.ingress.pid)
    for name in signals[:-1]:
        own_stack.ingress.signal(signal.Signals[name])
        own_stack.ingress.wait_log("draining")
        assert own_stack.ingress.running() and encoder.running(), "the first one waits"
    own_stack.ingress.signal(signal.Signals[signals[-1]])
    # Leaving a room takes 1.5 s at most; 5 s are what sessions get to end in order.
    assert await asyncio.to_thread(own_stack.ingress.wait_exit, 6) == 0
    await asyncio.to_thread(encoder.wait_exit, 5)
    [end] = [r for r in reports.of(info.ingress_id) if r.status in ("INACTIVE", "ERROR")]
    assert (end.status, end.error) == ("INACTIVE", "")
    await own_stack.wait_participant("now", "now-pub", here=False)
    wait_for("no process left", 5, lambda: not any(alive(pid) for pid in family))
    reports.close()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# being looked at ------------------------------------------------------------------------------------------------------------


def metrics(stack):
    """Name with labels → value."""
    status, text = stack.get("prometheus", "/metrics")
    assert status == 200
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line and not line.startswith("#")}


def value(found, name, **labels):
    """The one sample of this name that has all these labels."""
    hits = [
        v for k, v in found.items()
        if re.split(r"[{ ]", k)[0] == name and all(f'{label}="{wanted}"' in k for label, wanted in labels.items())
    ]
    assert len(hits) == 1, (name, labels, sorted(found))
    return hits[0]


async def test_health_and_metrics(own_stack):
    own_stack.start()
    assert own_stack.get("health", "/") == (200, "Healthy")
    assert own_stack.get("health", "/availability") == (200, "Available")
    info, encoder = await publishing(own_stack, "measured")
    found = metrics(own_stack)
    assert value(found, "livekit_ingress_requests", type="rtmp", transcoding="true") == 1
    assert value(found, "livekit_ingress_available") in (0, 1)
    assert 0 <= value(found, "livekit_node_cpu_load", node_type="INGRESS") <= 1
    assert value(found, "livekit_ingress_publish_status", type="rtmp", status="success") == 1
    with pytest.raises(Refused):
        await asyncio.to_thread(publish_by_hand, own_stack, "nosuchkey1234")
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    wait_for("no request", 5, lambda: value(metrics(own_stack), "livekit_ingress_requests", type="rtmp", transcoding="true") == 0)
    assert value(metrics(own_stack), "livekit_ingress_publish_status", type="rtmp", status="4xx") == 1
