"""No secret is found where it does not belong: arguments, environments, logs at trace level, Redis, metrics, texts."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import SECRET, Push, Refused, RtmpClient, Stack, Viewer
from rig.processes import descendants
from rig.pulls import AAC, FAST, H264, URL, make
from rig.whip import SDP, Whip, ask

WHIP = pb.IngressInput.WHIP_INPUT
PASSWORD = "redis-pass-word-0815"
LOGIN = "pa%3Ass-wrong"
# Tokens as livekit-server takes them.
TOKEN = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+")


class WithPassword(Stack):
    """A stack whose Redis wants a password."""

    def start_redis(self):
        port = self.port["redis"]
        self.redis = self.program("redis", ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD])
        self.redis.wait_port(port)

    def with_password(self, config):
        address = f'address: "127.0.0.1:{self.port["redis"]}"'
        return config.replace(address, f'{address}, password: "{PASSWORD}"').replace("level: info", "level: trace")

    def livekit_config(self):
        return self.with_password(super().livekit_config()).replace("level: trace", "level: info")

    def ingress_config(self, ports=None):
        return self.with_password(super().ingress_config(ports))

    def stored(self):
        """Everything in Redis but livekit-server's own store of ingresses: name → bytes."""

        def ask_redis(*words):
            command = ["redis-cli", "-p", str(self.port["redis"]), "--no-auth-warning", "-a", PASSWORD, *words]
            return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout

        names = ask_redis("--scan").decode().split()
        return {name: name.encode() + ask_redis("DUMP", name) for name in names if not name.startswith(("ingress", "{ingress"))}


@pytest.fixture(scope="module")
def stack():
    for s in run(WithPassword("url_aliases: {camera: 'rtsp://someone:alias-word@127.0.0.1:1/x'}")):
        yield s.start()


@pytest.mark.words("nothing that can be shown has come out", "has stopped")
async def test_no_secret_is_found_anywhere(stack, ended, web):
    make(stack, "fast.mp4", *H264, *AAC, *FAST, seconds=30)
    rtmp, whip, off = await stack.create("s-rtmp"), await stack.create("s-whip", WHIP), await stack.create("s-off", enabled=False)
    login = web.url.replace("//", "//viewer:pa%3Ass@")
    pulls = [
        await stack.create("s-url", URL, url=f"{login}/login/fast.mp4"),
        await stack.create("s-wrong", URL, url=f"{web.url.replace('//', f'//viewer:{LOGIN}@')}/login/fast.mp4?token=query-secret"),
        await stack.create("s-alias", URL, url="https://alias.invalid/camera"),
        await stack.create("s-moved", URL, url=f"{login}/moved/nothing.mp4"),
    ]
    async with Viewer(stack, "s-rtmp") as one, Viewer(stack, "s-whip") as two, Viewer(stack, "s-url") as three:
        ended(Push(stack, f"{stack.rtmp_url}/{rtmp.stream_key}", name="push", size=(320, 180)))
        async with Whip(stack.whip_url, whip.stream_key) as client:
            for viewer in (one, two, three):
                await viewer.wait_size(320, 180)
            # Refusals of all kinds, with keys of others in their paths.
            for key in (off.stream_key, rtmp.stream_key, "nosuchkey1234"):
                await ask("POST", f"{stack.whip_url}/{key}/x", "x", SDP)
                await ask("DELETE", f"{stack.whip_url}/{key}/WH_123456789012")
                await asyncio.to_thread(refused, stack, key if key != rtmp.stream_key else off.stream_key)
            found = await asyncio.to_thread(search, stack, {"off": off.stream_key, "rtmp": rtmp.stream_key, "whip": whip.stream_key})
            await client.delete()
    for pull in pulls[1:]:
        state = await stack.wait_state(pull.ingress_id, "ERROR", 40)
        found += [f"{name} in the state {state.error!r}" for name in LOGINS if LOGINS[name] in state.error]
    found += await asyncio.to_thread(search, stack, {"off": off.stream_key, "rtmp": rtmp.stream_key, "whip": whip.stream_key})
    assert not found, "\n".join(found)


LOGINS = {
    "a URL's password": "pa%3Ass", "a URL's password, plain": "pa:ss", "a URL's login, encoded": "dmlld2VyOnBhOnNz",
    "a query": "query-secret", "an alias' password": "alias-word", "a redirect's query": "token=secret",
}


def refused(stack, key):
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect(app=f"live/{key}")
        try:
            client.publish("x")
        except (Refused, ConnectionError):
            pass


def search(stack, keys):
    """Each place where a secret was found."""
    places = {"the log": stack.ingress.text(), "the metrics": stack.get("prometheus", "/metrics")[1]}
    for pid in descendants(stack.ingress.pid):
        for what in ("cmdline", "environ"):
            try:
                places[f"{what} of {pid}"] = Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
            except FileNotFoundError:
                continue
    places |= {f"Redis' {name}": value.decode(errors="replace") for name, value in stack.stored().items()}
    assert '"level":"debug"' in places["the log"], "the level is trace"
    secrets = {"the API secret": SECRET, "Redis' password": PASSWORD, **LOGINS, **{f"the key of {name}": key for name, key in keys.items()}}
    found = [f"{name} in {place}" for place, text in places.items() for name, secret in secrets.items() if secret in text]
    # livekit-server keeps nothing of tokens; what it stores of rooms is its own business otherwise.
    return found + [f"a token in {place}: {token[0][:30]}…" for place, text in places.items() if (token := TOKEN.search(text))]


def test_a_configuration_on_the_command_line_is_warned_of(own_stack):
    own_stack.start_redis()
    own_stack.start_livekit()
    from rig.stack import ingress_binary

    own_stack.ingress = own_stack.program("ingress", [ingress_binary(), "--config-body", own_stack.ingress_config()])
    line = own_stack.ingress.wait_log("--config-body", 10)
    assert '"level":"warn"' in line and "every user of this machine" in line
