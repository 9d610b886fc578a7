"""What the API and the room do to a session that runs, and what happens when its parts fail."""

import asyncio
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol import ingress as pb

from rig import SECRET, Push
from rig.processes import descendants, told

TERMINAL = {"INACTIVE", "ERROR", "COMPLETE"}


async def running(stack, ended, room, size=(320, 180)):
    """A session that publishes: its ingress and its encoder."""
    info = await stack.create(room)
    push = ended(Push(stack, f"{stack.rtmp_url}/{info.stream_key}", name=f"push-{room}", size=size))
    await stack.wait_participant(room, f"{room}-pub", tracks=2, seconds=20)
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    return info, push


async def gone(stack, push, room):
    """The encoder is disconnected and the participant has left."""
    await asyncio.to_thread(push.wait_exit, 15)
    await stack.wait_participant(room, f"{room}-pub", here=False)


async def test_update_ends_the_session(stack, reports, ended):
    info, push = await running(stack, ended, "updated")
    async with stack.api() as lk:
        await lk.ingress.update_ingress(pb.UpdateIngressRequest(ingress_id=info.ingress_id, name="new name"))
    await gone(stack, push, "updated")
    state = await stack.wait_state(info.ingress_id, "INACTIVE")
    assert state.error == ""
    assert [r.status for r in reports.of(info.ingress_id) if r.status in TERMINAL] == ["INACTIVE"]


async def test_delete_ends_the_session_without_a_report(stack, reports, ended):
    info, push = await running(stack, ended, "deleted")
    await stack.delete(info.ingress_id)
    said = len(reports.of(info.ingress_id))
    await gone(stack, push, "deleted")
    await asyncio.sleep(2)  # a late report is what must not come: it can crash livekit-server
    assert len(reports.of(info.ingress_id)) == said
    assert await stack.info(info.ingress_id) is None


@pytest.mark.parametrize("how", ["room deleted", "participant removed"])
async def test_the_room_removes_the_participant(stack, reports, ended, how):
    room = how.replace(" ", "-")
    info, push = await running(stack, ended, room)
    async with stack.api() as lk:
        if how == "room deleted":
            await lk.room.delete_room(api.DeleteRoomRequest(room=room))
        else:
            await lk.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=f"{room}-pub"))
    await asyncio.to_thread(push.wait_exit, 15)
    state = await stack.wait_state(info.ingress_id, "ERROR")
    assert state.error.startswith("room disconnected"), state.error
    assert state.ended_at
    assert [r.status for r in reports.of(info.ingress_id) if r.status in TERMINAL] == ["ERROR"]


async def test_no_secret_reaches_a_child_or_a_command_line(stack, ended):
    info, _ = await running(stack, ended, "secrets")
    for pid in descendants(stack.ingress.pid):
        # The ingress itself may be told by its environment.
        seen = told(pid) if pid != stack.ingress.pid else Path(f"/proc/{pid}/cmdline").read_bytes()
        assert SECRET.encode() not in seen and info.stream_key.encode() not in seen
    log = stack.ingress.text()
    assert SECRET not in log and info.stream_key not in log
