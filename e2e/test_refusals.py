"""Who may not push is told so, and what strangers send costs them their connection and nobody else anything."""

import asyncio
import os
import socket

import pytest
from livekit.protocol import ingress as pb

from rig import Push, Refused, RtmpClient
from rig.rtmp import amf


async def refused_key(stack, case):
    """A key that must be refused, and the ingress it belongs to, if any."""
    if case == "unknown":
        return "nosuchkey1234", None
    if case == "empty":
        return "", None
    if case == "disabled":
        info = await stack.create("off", enabled=False)
    else:
        info = await stack.create("whip", input_type=pb.IngressInput.WHIP_INPUT)
    return info.stream_key, info


# What the encoder is told and the operator finds in the log, as words that a person can act on.
WORDS = {
    "unknown": "no ingress has this stream key",
    "empty": "stream key",
    "disabled": "disabled",
    "whip": "WHIP",
}


@pytest.mark.parametrize("case", WORDS)
async def test_refused_pushes_get_a_text(stack, case):
    key, info = await refused_key(stack, case)
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect()
        with pytest.raises(Refused) as refusal:
            client.publish(key)
    assert refusal.value.code == "NetStream.Publish.Failed"
    assert WORDS[case].lower() in refusal.value.description.lower()
    stack.ingress.wait_log(WORDS[case])
    if key:
        assert key not in refusal.value.description
        assert key not in stack.ingress.text(), "a stream key stands in the log"
    if info:
        state = (await stack.info(info.ingress_id)).state
        assert not state.resource_id or state.ended_at or state.status == pb.IngressState.Status.ENDPOINT_ERROR


@pytest.mark.parametrize("case", WORDS)
async def test_ffmpeg_is_refused(stack, ended, case):
    key, _ = await refused_key(stack, case)
    push = ended(Push(stack, f"{stack.rtmp_url}/{key}", name=f"push-{case}", size=(320, 180)))
    assert await asyncio.to_thread(push.wait_exit, 20) != 0


async def test_a_second_push_does_not_harm_the_first(stack, reports, ended):
    """Whoever comes second with the same key: the stored state is that of a session that runs."""
    info = await stack.create("twice")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="push-twice1", size=(320, 180)))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="push-twice2", size=(320, 180)))
    await asyncio.sleep(3)
    state = await stack.wait_state(info.ingress_id, "PUBLISHING")
    assert not state.error
    assert await stack.participant("twice", "twice-pub")


async def still_serves(stack, ended, room):
    info = await stack.create(room)
    push = ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push-{room}", size=(320, 180)))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    push.hang_up()


def until_closed(connection, seconds=15):
    """Reads until the server closes; fails if it does not."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass


async def test_broken_bytes_end_the_connection(stack, ended):
    port = stack.port["rtmp"]
    noise = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(3000),
        b"\x16\x03\x01" + os.urandom(4000),  # a TLS hello
        b"\x03" + os.urandom(1536 + 1536) + b"\xff" * 4000,  # a handshake, and then no chunk at all
    ]
    for data in noise:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                continue
            await asyncio.to_thread(until_closed, connection)
    await still_serves(stack, ended, "after-noise")


async def test_an_endless_message_ends_the_connection(stack, ended):
    """A command that says it is 16 MiB long: an ingress that believes it would keep that for every stranger."""
    with RtmpClient(stack.port["rtmp"]) as client:
        client.handshake()
        head = b"\x03\0\0\0\xff\xff\xff\x14" + bytes(4)
        try:
            for _ in range(200_000):
                client.socket.sendall(head + bytes(128))
                head = b"\xc3"
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            await asyncio.to_thread(until_closed, client.socket)
    await still_serves(stack, ended, "after-endless")


async def test_malformed_amf_ends_the_connection(stack, ended):
    for payload in (
        amf("connect") + amf(1) + b"\x03\0\1a" * 30_000,  # objects in objects
        amf("connect") + amf(1) + b"\x0a\xff\xff\xff\xff",  # an array of four thousand million
        amf("connect") + b"\x02\xff\xff" + b"x",  # a string longer than the message
        b"\x0c\xff\xff\xff\xff",
    ):
        with RtmpClient(stack.port["rtmp"]) as client:
            client.handshake()
            try:
                client.send(20, payload)
                await asyncio.to_thread(until_closed, client.socket)
            except (BrokenPipeError, ConnectionResetError):
                pass
    await still_serves(stack, ended, "after-amf")


async def test_a_session_continues_beside_strangers(stack, ended):
    """Silent and half-open connections beside a session: it does not notice."""
    info = await stack.create("beside")
    ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name="push-beside", size=(320, 180)))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    strangers = [socket.create_connection(("127.0.0.1", stack.port["rtmp"]), 5) for _ in range(50)]
    try:
        for stranger in strangers[::2]:
            stranger.sendall(b"\x03")
        await still_serves(stack, ended, "beside-too")
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert await stack.participant("beside", "beside-pub")
    finally:
        for stranger in strangers:
            stranger.close()


async def test_media_before_publish_is_refused(stack):
    """Audio and video before, or without, an accepted publish."""
    with RtmpClient(stack.port["rtmp"]) as client:
        client.connect()
        try:
            for _ in range(1000):
                client.send(9, b"\x17\x01\0\0\0" + bytes(1000), stream=1)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused at once: fine too
        with pytest.raises((Refused, ConnectionError)):
            client.publish("nosuchkey1234")
