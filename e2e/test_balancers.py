"""Behind load balancers: the address of a client is what a trusted balancer says, for limits and logs, and what nobody else can say."""

import asyncio
import json
import socket

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Push, Refused, RtmpClient, Stack, Viewer, wait_for
from rig.balancer import Balancer, header
from rig.certificates import certify
from rig.whip import SDP, Whip, ask

WHIP = pb.IngressInput.WHIP_INPUT
CONFIG = """
rtmp_proxy_protocol_from: [127.0.0.1]
rtmp_max_connections_per_address: 3
whip_forwarded_from: [127.0.0.1/32]
whip_max_connections_per_address: 3
"""
NOBODY = "127.0.0.2"  # an address that the configuration does not trust


@pytest.fixture(scope="module")
def stack():
    for s in run(Stack(CONFIG)):
        certify(s.dir / "tls.pem", s.dir / "tls.key", "e2e")
        s.ingress_yaml += f"rtmps_port: {s.port['rtmps']}\nrtmps_cert_file: {s.dir}/tls.pem\nrtmps_key_file: {s.dir}/tls.key\n"
        yield s.start()


class Proxied(RtmpClient):
    """An encoder whose connection begins with these bytes."""

    def __init__(self, port, first, source="127.0.0.1"):
        super().__init__(port)
        self.socket.close()
        self.socket = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
        self.socket.sendall(first)


def refusal(client):
    """What an encoder with a wrong key is told."""
    with client:
        client.connect()
        with pytest.raises(Refused) as refused:
            client.publish("nosuchkey1234")
        return refused.value.description


def peers(stack, input):
    """The addresses in the log of those who were refused for their key."""
    lines = [json.loads(line) for line in stack.ingress.text().splitlines() if '"publisher refused"' in line]
    return [line["peer"] for line in lines if line["input"] == input]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
def test_an_encoder_has_its_own_address(stack, version, address):
    words = refusal(Proxied(stack.port["rtmp"], header(version, (address, 4000 + version))))
    assert "no ingress has this stream key" in words
    shown = f"[{address}]" if ":" in address else address
    wait_for("its address in the log", 5, lambda: f"{shown}:{4000 + version}" in peers(stack, "rtmp"))


async def test_ffmpeg_pushes_through_a_balancer(stack, ended):
    """RTMP and RTMPS: behind the header comes whatever the port speaks."""
    for name, port in (("rtmp", stack.port["rtmp"]), ("rtmps", stack.port["rtmps"])):
        info, balancer = await stack.create(f"behind-{name}"), Balancer(port, ("203.0.113.77", 5555))
        try:
            async with Viewer(stack, f"behind-{name}") as viewer:
                ended(Push(stack, f"{name}://127.0.0.1:{balancer.port}/live/{info.stream_key}", name=f"push-{name}", size=(320, 180)))
                await viewer.wait_size(320, 180)
                assert '"peer":"203.0.113.77:5555"' in stack.ingress.wait_log("publisher accepted")
                await stack.wait_state(info.ingress_id, "PUBLISHING")
        finally:
            balancer.close()


def test_what_is_no_header_is_closed_on(stack):
    """From a balancer's address nothing else is taken; from others no header is."""
    before = stack.metric("ingress_rtmp_ended_connections_total", how="proxy")
    for first in (b"\3" + bytes(1536), b"PROXY TCP4 203.0.113.9\r\n" + bytes(100), b"PROXY " + b"x" * 200, b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", stack.port["rtmp"]), 10) as connection:
            connection.sendall(first)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                pass
    wait_for("four counted", 5, lambda: stack.metric("ingress_rtmp_ended_connections_total", how="proxy") == before + 4)
    stack.ingress.wait_log("does not begin with a PROXY header")
    with socket.create_connection(("127.0.0.1", stack.port["rtmp"]), 10, source_address=(NOBODY, 0)) as connection:
        connection.sendall(header(1, ("203.0.113.66", 1)))
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    assert "203.0.113.66" not in stack.ingress.text()


def test_limits_count_clients_and_not_balancers(stack):
    """Three of one address may wait; thirty clients of one balancer do."""
    crowd = [Proxied(stack.port["rtmp"], header(2, (f"198.51.100.{i}", 1))) for i in range(30)]
    try:
        for client in crowd:
            client.handshake()
        same = [Proxied(stack.port["rtmp"], header(2, ("198.51.100.0", 2 + i))) for i in range(3)]
        crowd += same
        for client in same:
            client.handshake()
        crowd[0].socket.settimeout(5)
        assert crowd[0].socket.recv(1) == b"", "the oldest of its address gives way"
        crowd[1].socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            crowd[1].socket.recv(1)
    finally:
        for client in crowd:
            client.close()


def forwarded(address):
    return {**SDP, "Authorization": "Bearer nosuchkey4321", "X-Forwarded-For": address}


async def test_a_whip_client_has_its_own_address(stack):
    for value, shown in [("203.0.113.9", "203.0.113.9:0"), ("198.51.100.1, 203.0.113.10", "203.0.113.10:0"), ("2001:db8::9", "[2001:db8::9]:0")]:
        assert (await ask("POST", stack.whip_url, "x", forwarded(value))).status == 404
        wait_for(shown, 5, lambda: shown in peers(stack, "whip"))
    assert not any("198.51.100.1" in peer for peer in peers(stack, "whip")), "its own claim"


async def test_a_header_of_nobody_is_not_believed(stack):
    request = "POST /w HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nAuthorization: Bearer nosuchkey4321\r\nContent-Length: 1\r\n"
    with socket.create_connection(("127.0.0.1", stack.port["whip"]), 10, source_address=(NOBODY, 0)) as connection:
        connection.sendall(f"{request}X-Forwarded-For: 203.0.113.55\r\n\r\nx".encode())
        assert b" 404 " in connection.recv(4096)
    wait_for("its address", 5, lambda: any(peer.startswith(NOBODY) for peer in peers(stack, "whip")))
    assert "203.0.113.55" not in stack.ingress.text()


async def test_whip_limits_count_clients_and_not_proxies(stack):
    """Wrong keys charge their client for a second, and nobody else of the same proxy. Ten of them are let through in any case."""
    answers = await asyncio.gather(*(ask("POST", stack.whip_url, "x", forwarded("203.0.113.200")) for _ in range(20)))
    assert sorted({answer.status for answer in answers}) == [404, 503]
    others = await asyncio.gather(*(ask("POST", stack.whip_url, "x", forwarded(f"203.0.113.{i}")) for i in range(20)))
    assert {answer.status for answer in others} == {404}


async def test_whip_plays_behind_a_proxy(stack):
    info = await stack.create("behind-whip", WHIP)
    async with Viewer(stack, "behind-whip") as viewer, Whip(stack.whip_url, info.stream_key) as client:
        assert client.answer.status == 201, client.answer
        await viewer.wait_size(320, 180)
