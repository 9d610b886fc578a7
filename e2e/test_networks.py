"""Networks that let little through: only TURN; only a proxy; no IPv4."""

import contextlib
import ssl

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Source, Stack, Viewer
from rig.browser import Browser
from rig.networks import Fence, OnlySix
from rig.pulls import AAC, FAST, H264, make, plays
from rig.stack import livekit_binary
from rig.turn import Turn
from rig.way_out import WayOut
from rig.web import Web


class Behind(Stack):
    """livekit-server and Redis out here, reached at `fence.address`; the ingress in there unless `client` is."""

    def __init__(self, fence, protocol=None, inside=True):
        super().__init__()
        self.fence, self.inside, self.servers = fence, inside, ""
        self.turn = Turn(self, fence.address)
        if protocol:
            self.servers = f"  turn_servers: [{self.turn.livekit(protocol)}]\n"
        self.protocol = protocol
        self.ingress_ws_url = f"ws://{fence.address}:{self.port['livekit']}"
        self.whip_url = f"http://{fence.address}:{self.port['whip']}/w"
        if inside:
            self.ingress_host = fence.inner
            self.rtmp_url = f"rtmp://{fence.inner}:{self.port['rtmp']}/live"
            self.wrap = fence.command(["env", f"SSL_CERT_FILE={self.turn.certificate}"])

    def start_redis(self):
        port = self.port["redis"]
        bind = ["--bind", "127.0.0.1", self.fence.address, "--protected-mode", "no", "--save", ""]
        self.redis = self.program("redis", ["redis-server", "--port", port, *bind, "--dir", self.dir])
        self.redis.wait_port(port)

    def livekit_config(self):
        own, way = self.fence.address, self.fence.ours[0]
        yaml = super().livekit_config().replace("node_ip: 127.0.0.1", f"node_ip: {own}\n{self.servers}")
        return yaml.replace('["127.0.0.1"]', f'["127.0.0.1", "{own}"]').replace("includes: [lo]", f"includes: [{way}]")

    def ingress_config(self, ports=None):
        yaml = super().ingress_config(ports).replace("bind_address: 127.0.0.1\n", "")
        own, way = (self.fence.inner, "eth0") if self.inside else (self.fence.address, self.fence.ours[0])
        yaml = yaml.replace("node_ip: 127.0.0.1", f"node_ip: {own}").replace("includes: [lo]", f"includes: [{way}]")
        return yaml.replace(f'"127.0.0.1:{self.port["redis"]}"', f'"{self.fence.address}:{self.port["redis"]}"')

    def turn_port(self):
        """What the filter lets through of TURN."""
        if self.protocol == "tls":
            return "tcp", self.turn.tls_port
        return self.protocol or "udp", self.turn.port


@contextlib.asynccontextmanager
async def pushed(stack, room):
    """Pushes by RTMP from out here; gives what is stored."""
    info = await stack.create(room)
    source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "source.log", size=(320, 180), fps=15).start()
    try:
        yield info
    finally:
        await source.stop()


def fenced(stack):
    """Starts a stack whose ingress may open signalling, Redis and TURN, and nothing else: neither the SFU's UDP port nor its TCP port."""
    p = stack.port
    stack.fence.allow(to=[("tcp", p["livekit"]), ("tcp", p["redis"]), stack.turn_port()], at=[("tcp", p["rtmp"]), ("tcp", p["health"])])
    stack.start()


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
async def test_a_room_is_reached_by_turn_alone(protocol):
    with Fence() as fence:
        for stack in run(Behind(fence, protocol)):
            fenced(stack)
            async with pushed(stack, f"turn-{protocol}") as info, Viewer(stack, f"turn-{protocol}") as viewer:
                await viewer.wait_numbers(20)
                await viewer.wait_sound()
                await stack.wait_state(info.ingress_id, "PUBLISHING")
            stack.turn.wait_log("ALLOCATE processed, success")


async def test_without_turn_the_state_says_what_to_open():
    """The same fence with no TURN server told: what the tests above show is TURN's doing."""
    with Fence() as fence:
        for stack in run(Behind(fence)):
            fenced(stack)
            async with pushed(stack, "no-turn") as info:
                state = await stack.wait_state(info.ingress_id, "ERROR", 40)
                assert "the room took no media; is its UDP or TCP media port reachable from here?" in state.error, state.error


async def test_a_whip_client_connects_by_the_servers_of_the_room():
    """A browser that may open WHIP's HTTP port and TURN. The ingress knows no TURN server but what livekit-server says."""
    with Fence() as fence:
        for stack in run(Behind(fence, "udp", inside=False)):
            fence.allow(to=[("tcp", stack.port["whip"]), stack.turn_port()])
            stack.start()
            browser = Browser(stack.dir, fence)
            stack.programs.append(browser)
            info = await stack.create("linked", pb.IngressInput.WHIP_INPUT)
            async with Viewer(stack, "linked") as viewer, browser.page() as page:
                answer = await page.start(stack.whip_url, info.stream_key, codec="VP8", width=320, height=180, told=True)
                assert answer.get("status") == 201, answer
                assert f"turn:{fence.address}:{stack.turn.port}?transport=udp" in answer["link"], answer
                await viewer.wait_numbers(20)
                await viewer.wait_sound()
                stack.turn.wait_log("ALLOCATE processed, success")


class Proxied(Behind):
    """The ingress reaches HTTP by a proxy alone, which its environment names."""

    def __init__(self, fence, proxy):
        super().__init__(fence)
        told = {"HTTP_PROXY": proxy.url, "https_proxy": proxy.url, "NO_PROXY": "other.example.com,10.0.0.0/8"}
        self.wrap = [*self.wrap, *(f"{name}={value}" for name, value in told.items())]


async def test_signalling_and_pulls_go_by_the_proxy_of_the_environment():
    """Nothing but Redis, the proxy and the SFU's media port is open; the proxy wants a login."""
    with Fence() as fence:
        async with WayOut(fence.address) as proxy:
            for stack in run(Proxied(fence, proxy)):
                p = stack.port
                opened = [("tcp", p["redis"]), ("tcp", proxy.port), ("udp", p["rtc_udp"])]
                fence.allow(to=opened, at=[("tcp", p["rtmp"]), ("tcp", p["health"])])
                stack.start()
                async with pushed(stack, "proxied") as info, Viewer(stack, "proxied") as viewer:
                    await viewer.wait_numbers(20)
                    await stack.wait_state(info.ingress_id, "PUBLISHING")
                assert f"CONNECT {fence.address}:{p['livekit']}" in proxy.asked, proxy.asked
                clip = make(stack, "clip.mp4", *H264, *AAC, *FAST, seconds=8)
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(stack.turn.certificate, stack.turn.key)
                for name, web in ("http", Web(stack.dir, host=fence.address)), ("https", Web(stack.dir, tls, host=fence.address)):
                    try:
                        await plays(stack, f"proxied-{name}", f"{web.url}/file/{clip}")
                    finally:
                        web.close()
                    asked = f"CONNECT {web.authority}" if name == "https" else f"GET {web.url}/file/{clip}"
                    assert asked in proxy.asked, proxy.asked
                assert proxy.strangers == 0
                assert "p%40ss" not in stack.ingress.text() and "p@ss" not in stack.ingress.text()


class Six(Stack):
    """All of a deployment in a network without IPv4."""

    def __init__(self, network):
        super().__init__()
        self.network, own = network, f"[{network.inner}]"
        self.wrap = network.command([])
        self.ingress_host = own
        self.ws_url = self.ingress_ws_url = f"ws://{own}:{self.port['livekit']}"
        self.http_url = f"http://{own}:{self.port['livekit']}"
        self.rtmp_url = f"rtmp://{own}:{self.port['rtmp']}/live"
        self.whip_url = f"http://{own}:{self.port['whip']}/w"

    def start_redis(self):
        port = self.port["redis"]
        options = ["--bind", "::1", "--save", "", "--dir", self.dir]
        self.redis = self.program("redis", [*self.wrap, "redis-server", "--port", port, *options])
        self.redis.wait_log("Ready to accept connections", 20)

    def start_livekit(self):
        config = self.dir / "livekit.yaml"
        config.write_text(self.livekit_config())
        self.livekit = self.program("livekit", [*self.wrap, livekit_binary(), "--config", config])
        self.livekit.wait_port(self.port["livekit"], host=self.network.inner)

    def livekit_config(self):
        yaml = super().livekit_config().replace('["127.0.0.1"]', f'["{self.network.inner}"]').replace("includes: [lo]", "includes: [eth0]")
        return yaml.replace("node_ip: 127.0.0.1", f"node_ip: {self.network.inner}").replace("127.0.0.1:", "[::1]:")

    def ingress_config(self, ports=None):
        yaml = super().ingress_config(ports).replace("bind_address: 127.0.0.1\n", "").replace("  node_ip: 127.0.0.1\n", "")
        return yaml.replace("includes: [lo]", "includes: [eth0]").replace("127.0.0.1:", "[::1]:")


async def test_rtmp_whip_and_a_room_without_ipv4():
    with OnlySix() as network:
        for stack in run(Six(network)):
            stack.start()
            async with pushed(stack, "six") as info, Viewer(stack, "six") as viewer:
                await viewer.wait_numbers(20)
                await viewer.wait_sound()
                await stack.wait_state(info.ingress_id, "PUBLISHING")
            browser = Browser(stack.dir, network)
            stack.programs.append(browser)
            info = await stack.create("six-whip", pb.IngressInput.WHIP_INPUT)
            async with Viewer(stack, "six-whip") as viewer, browser.page() as page:
                answer = await page.start(stack.whip_url, info.stream_key, codec="VP8", width=320, height=180)
                assert answer.get("status") == 201, answer
                await viewer.wait_numbers(20)
                await viewer.wait_sound()
