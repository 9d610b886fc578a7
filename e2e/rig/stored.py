"""Sessions and what the API says of them: what tests of failures begin with and look at afterwards."""

import asyncio
import time

from livekit import api

from .media import Push
from .stack import status_name

FINAL = ("INACTIVE", "ERROR", "COMPLETE")


def push(stack, info, ports=None, name="push"):
    port = (ports or stack.port)["rtmp"]
    return Push(stack, f"rtmp://127.0.0.1:{port}/live/{info.stream_key}", name=name, size=(320, 180))


async def publishing(stack, room, ports=None, **fields):
    """An ingress that publishes: itself, its encoder, and its stored state."""
    info = await stack.create(room, **fields)
    encoder = push(stack, info, ports, f"push-{room}")
    return info, encoder, await stack.wait_state(info.ingress_id, "PUBLISHING", 20)


def put_right(state, before):
    """It is an end in words, of the same session."""
    assert "stopped working" in state.error, state
    assert (state.started_at, state.resource_id) == (before.started_at, before.resource_id)
    assert state.ended_at >= state.started_at


async def answers(stack, info):
    """Waits until livekit-server has found Redis again."""
    end = time.monotonic() + 15
    while True:
        try:
            return await stack.info(info.ingress_id)
        except api.TwirpError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


async def held(stack, info, status, seconds):
    """The stored status stays."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = (await stack.info(info.ingress_id)).state
        assert status_name(state) == status, state
        await asyncio.sleep(0.5)
