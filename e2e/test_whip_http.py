"""WHIP's HTTP side, with plain requests against the whole: statuses and words, CORS, several machines, TLS, rude clients.

`crates/service/tests/whip_server.rs` holds the fine print; here it is what a deployment shows."""

import asyncio
import base64
import hashlib
import hmac
import re
import socket
import ssl
import time
from pathlib import Path

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Stack
from rig.certificates import certify
from rig.whip import FRAGMENT, SDP, ask, request

WHIP = pb.IngressInput.WHIP_INPUT
TURN = """
whip_max_connections_per_address: 60
"""
# In rtc_config of the stack: what follows `interfaces`.
SERVERS = """
  stun_servers: ["127.0.0.1:3478"]
  turn_servers:
    - {host: turn.example, port: 443, protocol: tls, secret: north-secret, ttl: 600}
    - {host: turn.example, port: 3478, protocol: udp, username: someone, credential: pass-word}
"""


class WithServers(Stack):
    def ingress_config(self, ports=None):
        head, line, rest = super().ingress_config(ports).partition("  interfaces: {includes: [lo]}\n")
        return head + line + SERVERS.strip("\n") + "\n" + rest


@pytest.fixture(scope="module")
def stack(webhooks):
    for s in run(WithServers(TURN, webhook=webhooks.url)):
        yield s.start()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def check_cors(answer):
    assert answer.headers["access-control-allow-origin"] == "*", answer
    assert "Location, ETag, Link" in answer.headers["access-control-expose-headers"], answer


async def test_refusals_have_status_and_text(stack):
    off = await stack.create("http-off", WHIP, enabled=False)
    good = await stack.create("http-good", WHIP)
    rtmp = await stack.create("http-rtmp")
    url, ok = stack.whip_url, {**SDP, **bearer(good.stream_key)}
    dull = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    offer = (Path(__file__).parent / "data" / "obs-offer.sdp").read_bytes().decode()
    useless = offer.replace("H264/90000", "H263/90000").replace("opus/48000/2", "PCMA/8000")
    table = [
        (url, {**SDP}, "x", 401, "no stream key"),
        (url, {**SDP, **bearer("nosuchkey1234")}, "x", 404, "no ingress has this stream key"),
        (f"{url}/nosuchkey1234", SDP, "x", 404, "no ingress has this stream key"),
        (url, {**SDP, **bearer(off.stream_key)}, "x", 403, "disabled"),
        (url, {**SDP, **bearer(rtmp.stream_key)}, "x", 400, "belongs to a rtmp ingress"),
        (url, bearer(good.stream_key), "x", 415, "application/sdp"),
        (url, ok, "x" * 70_000, 413, "too large"),
        (url, ok, "", 400, ""),
        (url, ok, "noise\0\1\2", 400, ""),
        (url, ok, dull, 400, "no media"),
        (url, ok, useless, 406, ""),
        (f"{url}/x/WH_123456789012", {**FRAGMENT, "If-Match": "*"}, "x", 405, "PATCH, DELETE"),
    ]
    for target, headers, body, status, words in table:
        answer = await ask("POST", target, body, headers)
        assert answer.status == status, (target, headers, answer)
        assert words.lower() in answer.body.lower() and answer.body, answer
        check_cors(answer)
        for key in (off.stream_key, rtmp.stream_key, good.stream_key):
            assert key not in answer.body
    log = stack.ingress.text()
    for info in (off, good, rtmp):
        assert info.stream_key not in log, "a stream key stands in the log"
    state = (await stack.info(off.ingress_id)).state
    assert state.status == pb.IngressState.Status.ENDPOINT_ERROR and "disabled" in state.error


async def test_options_and_get_before_an_offer(stack):
    info = await stack.create("http-options", WHIP)
    for path, methods in (("w", "POST, OPTIONS"), ("w/key", "POST, OPTIONS"), ("w/key/WH_123456789012", "PATCH, DELETE, OPTIONS")):
        answer = await ask("OPTIONS", f"http://127.0.0.1:{stack.port['whip']}/{path}")
        assert (answer.status, answer.headers["access-control-allow-methods"]) == (204, methods)
        check_cors(answer)
    answer = await ask("OPTIONS", stack.whip_url, headers=bearer(info.stream_key))
    links = re.findall(r'<(.*?)>; rel="ice-server"(?:; username="(.*?)"; credential="(.*?)")?', answer.headers["link"])
    assert [uri for uri, *_ in links] == [
        "stun:127.0.0.1:3478", "turns:turn.example:443?transport=tcp", "turn:turn.example:3478?transport=udp",
    ]
    username, credential = links[1][1:]
    until = int(username.split(":")[0])
    assert abs(until - time.time() - 600) < 60
    made = hmac.new(b"north-secret", username.encode(), hashlib.sha1).digest()
    assert credential == base64.b64encode(made).decode()
    assert links[2][1:] == ("someone", "pass-word")
    for nobody in ({}, bearer("nosuchkey1234")):
        assert "turn" not in (await ask("OPTIONS", stack.whip_url, headers=nobody)).headers["link"]
    assert "north-secret" not in stack.ingress.text() and "pass-word" not in stack.ingress.text()


async def test_health_pages(stack):
    assert stack.get("whip", "/health") == (200, "Healthy")
    assert stack.get("whip", "/availability") == (200, "Available")


async def test_whip_switched_off_opens_no_port(own_stack):
    stack = own_stack
    whip, udp = stack.port["whip"], stack.port["whip_udp"]
    stack.port["whip"] = -1
    stack.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", udp))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", whip), 2)


async def test_rude_clients_do_not_disturb_others(stack):
    """Dripped and endless requests, and more connections than one address may have, beside a polite client, who is answered all the
    while."""
    port, waits, rude = stack.port["whip"], [], True

    async def polite():
        while rude:
            began = time.monotonic()
            answer = await ask("POST", stack.whip_url, "x", {**SDP, **bearer("nosuchkey1234")})
            waits.append(time.monotonic() - began)
            assert answer.status == 404, answer
            # A wrong key is charged for a second.
            await asyncio.sleep(0.2)

    bystander = asyncio.create_task(polite())
    strangers = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(40)]
    try:
        for i, stranger in enumerate(strangers):
            stranger.sendall([b"", b"P", b"POST /w HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x00"][i % 4])
        flood = b"POST /w/k HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 67108864\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 5) as big:
            big.settimeout(20)
            big.sendall(flood)
            chunk = bytes(1 << 20)
            for _ in range(64):
                await asyncio.to_thread(big.sendall, chunk)
            assert b" 413 " in big.recv(4096)
        # Those that never finish their request are sent away.
        for stranger in strangers[:8]:
            stranger.settimeout(20)
            try:
                while await asyncio.to_thread(stranger.recv, 4096):
                    pass
            except ConnectionResetError:
                pass
        # As many as there may be and half as many again.
        strangers += [socket.create_connection(("127.0.0.1", port), 5) for _ in range(90)]
        seen = len(waits)
        while len(waits) < seen + 5 and not bystander.done():
            await asyncio.sleep(0.05)
        rude = False
        await bystander
        print(f"{len(waits)} polite requests, the slowest took {max(waits):.2f} s")
        assert len(waits) > 15 and max(waits) < 3
    finally:
        bystander.cancel()
        for stranger in strangers:
            stranger.close()


def certificate(directory, name):
    """A certificate and its key, signed by itself."""
    files = directory / "whip.pem", directory / "whip.key"
    certify(*files, name)
    return files


def shown(port):
    """The certificate that the port shows, and whether it speaks HTTP behind it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := tls.recv(4096):
            answer += chunk
        assert answer.endswith(b"Healthy"), answer
        return tls.getpeercert(binary_form=True)


async def test_tls_with_a_renewed_certificate(own_stack):
    stack = own_stack
    cert, key = certificate(stack.dir, "one")
    port = stack.port["relay"]
    stack.port["relay"] = stack.port["whip_udp"]
    stack.ingress_yaml = f"whip_tls_port: {port}\nwhip_tls_cert_file: {cert}\nwhip_tls_key_file: {key}\n"
    stack.start()
    first = shown(port)
    certificate(stack.dir, "two")
    end = time.monotonic() + 20
    while shown(port) == first:
        assert time.monotonic() < end, "the old certificate is still shown"
        await asyncio.sleep(0.2)
    assert request("GET", f"http://127.0.0.1:{stack.port['whip']}/health").status == 200
