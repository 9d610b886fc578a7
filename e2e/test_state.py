"""What the API says of a stream is true, also after a process was killed, held or set to another time."""

import asyncio
import signal
import subprocess
import time

import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Reports, Stack, status_name
from rig.psrpc import call, protobuf
from rig.stored import FINAL, held, publishing, push, put_right


def store(stack, info, **state):
    """Stores a state as any ingress can."""
    request = protobuf({1: info.ingress_id, 2: pb.IngressState(**state).SerializeToString()})
    call(stack, "IOInfo", "UpdateIngressState", request)


# killed ---------------------------------------------------------------------------------------------------------------------


async def test_killed_and_started_again(own_stack):
    own_stack.start()
    info, encoder, before = await publishing(own_stack, "killed")
    own_stack.ingress.signal(signal.SIGKILL)
    own_stack.ingress.wait_exit(5)
    began = time.monotonic()
    own_stack.start_ingress()
    put_right(await own_stack.wait_state(info.ingress_id, "ERROR", 30 - (time.monotonic() - began)), before)
    # And it is nobody's any more.
    push(own_stack, info, name="again")
    after = await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    assert after.started_at > before.started_at and after.resource_id != before.resource_id


async def test_one_of_two_is_killed(own_stack):
    """The other puts it right, and touches nothing else: neither its own session, nor that of an ingress that has moved to it."""
    own_stack.start()
    another, ports = own_stack.start_another()
    reports = Reports(own_stack)
    stays, _, _ = await publishing(own_stack, "stays")
    dies, _, before = await publishing(own_stack, "dies", ports)
    moves, _, _ = await publishing(own_stack, "moves", ports)
    another.signal(signal.SIGKILL)
    began = time.monotonic()
    another.wait_exit(5)
    again = push(own_stack, moves, name="moved")
    put_right(await own_stack.wait_state(dies.ingress_id, "ERROR", 60 - (time.monotonic() - began)), before)
    for info in (stays, moves):
        await held(own_stack, info, "PUBLISHING", 2)
        assert not [r for r in reports.of(info.ingress_id) if r.status in FINAL]
    assert again.running()
    assert len([r for r in reports.of(dies.ingress_id) if r.status in FINAL]) == 1
    reports.close()


async def test_a_session_that_never_was_touched_by_a_peer(own_stack):
    """Two instances that live: neither ever ends a session of the other, also while a third ends in order."""
    own_stack.start()
    _, ports = own_stack.start_another()
    third, _ = own_stack.start_another("third")
    reports = Reports(own_stack)
    info, encoder, _ = await publishing(own_stack, "beside", ports)
    third.signal(signal.SIGINT)
    await asyncio.to_thread(third.wait_exit, 10)
    await held(own_stack, info, "PUBLISHING", 30)
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING"]
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    reports.close()


# held -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.words("stopped", "nothing that can be shown", "comes damaged")
async def test_held_and_let_go(own_stack):
    """An instance that is held so long that others take it for dead takes its state back, and ends its sessions as usual."""
    own_stack.start()
    another, ports = own_stack.start_another()
    info, encoder, before = await publishing(own_stack, "held", ports)
    another.signal(signal.SIGSTOP)
    try:
        put_right(await own_stack.wait_state(info.ingress_id, "ERROR", 60), before)
    finally:
        another.signal(signal.SIGCONT)
    state = await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    assert (state.started_at, state.resource_id) == (before.started_at, before.resource_id)
    await own_stack.wait_participant("held", "held-pub", tracks=2, seconds=30)
    encoder.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")


# clocks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [10, 1])
async def test_the_stored_time_lies_ahead(own_stack, minutes):
    """Another instance's clock was ahead, or ours was set back between two sessions."""
    own_stack.start()
    info = await own_stack.create("ahead")
    ahead = time.time_ns() + minutes * 60 * 10**9
    store(own_stack, info, status=pb.IngressState.ENDPOINT_INACTIVE, started_at=ahead, updated_at=ahead + 5, ended_at=ahead + 5)
    encoder = push(own_stack, info)
    state = await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    assert state.started_at > ahead
    await own_stack.delete(info.ingress_id)
    await asyncio.to_thread(encoder.wait_exit, 10)
    assert await own_stack.info(info.ingress_id) is None
    await own_stack.wait_participant("ahead", "ahead-pub", here=False)


async def test_a_refusal_is_stored_though_the_stored_time_lies_ahead(own_stack):
    own_stack.start()
    info = await own_stack.create("refused", enabled=False)
    ahead = time.time_ns() + 600 * 10**9
    store(own_stack, info, status=pb.IngressState.ENDPOINT_INACTIVE, started_at=ahead, updated_at=ahead)
    push(own_stack, info)
    state = await own_stack.wait_state(info.ingress_id, "ERROR", 10)
    assert "disabled" in state.error


# changed while it starts ----------------------------------------------------------------------------------------------------


async def changed_behind_its_back(stack, room, change):
    """A session whose ingress is changed while livekit-server does not know that it runs: as it stands when an update or a deletion
    comes just before BUFFERING is stored."""
    info, encoder, state = await publishing(stack, room)
    ahead = state.started_at + 1
    store(stack, info, status=pb.IngressState.ENDPOINT_INACTIVE, started_at=ahead, updated_at=ahead, resource_id="RT_another")
    async with stack.api() as lk:
        await change(lk, info)
    await asyncio.to_thread(encoder.wait_exit, 45)
    await stack.wait_participant(room, f"{room}-pub", here=False)
    return info, encoder


async def test_an_update_that_came_while_it_started(own_stack):
    own_stack.start()

    async def rename(lk, info):
        await lk.ingress.update_ingress(pb.UpdateIngressRequest(ingress_id=info.ingress_id, participant_name="new name"))

    info, _ = await changed_behind_its_back(own_stack, "updated", rename)
    await own_stack.wait_state(info.ingress_id, "INACTIVE")
    push(own_stack, info, name="again")
    found = await own_stack.wait_participant("updated", "updated-pub", tracks=2, seconds=20)
    assert found.name == "new name"


async def test_a_deletion_that_came_while_it_started(own_stack):
    own_stack.start()

    async def delete(lk, info):
        await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=info.ingress_id))

    info, _ = await changed_behind_its_back(own_stack, "gone", delete)
    assert await own_stack.info(info.ingress_id) is None


@pytest.mark.words("stopped", "nothing that can be shown", "comes damaged")
@pytest.mark.parametrize("how", ["update", "delete"])
async def test_of_two_instances_the_right_one_answers(own_stack, how):
    """The first is held while the encoder goes to the second. Once it is let go it still takes commands for the ingress."""
    own_stack.start()
    another, ports = own_stack.start_another()
    info, first, before = await publishing(own_stack, "two", ports)
    another.signal(signal.SIGSTOP)
    try:
        second = push(own_stack, info, name="second")
        end = time.monotonic() + 20
        while (state := (await own_stack.info(info.ingress_id)).state).resource_id == before.resource_id or status_name(state) != "PUBLISHING":
            assert time.monotonic() < end, state
            await asyncio.sleep(0.05)
    finally:
        another.signal(signal.SIGCONT)
    async with own_stack.api() as lk:
        if how == "update":
            await lk.ingress.update_ingress(pb.UpdateIngressRequest(ingress_id=info.ingress_id, name="new"))
        else:
            await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=info.ingress_id))
    await asyncio.to_thread(second.wait_exit, 10)
    await asyncio.to_thread(first.wait_exit, 40)
    await own_stack.wait_participant("two", "two-pub", here=False)


# duplicates -----------------------------------------------------------------------------------------------------------------


async def test_an_encoder_that_comes_to_another_instance(own_stack):
    """The room throws the first participant out; the state is that of the second all along, and nobody ends it."""
    own_stack.start()
    _, ports = own_stack.start_another()
    info, first, before = await publishing(own_stack, "moved", ports)
    second = push(own_stack, info, name="second")
    await asyncio.to_thread(first.wait_exit, 20)
    state = await own_stack.wait_state(info.ingress_id, "PUBLISHING")
    assert state.resource_id != before.resource_id and state.started_at > before.started_at
    await held(own_stack, info, "PUBLISHING", 5)
    second.hang_up()
    await own_stack.wait_state(info.ingress_id, "INACTIVE")


async def test_another_ingress_with_the_same_identity(own_stack):
    """Two ingresses, of two instances, are one participant for the room, which throws the first out: that one ends, in words and for
    good, and the other goes on."""
    own_stack.start()
    _, ports = own_stack.start_another()
    reports = Reports(own_stack)
    one, first, before = await publishing(own_stack, "same", participant_identity="twin")
    other = await own_stack.create("same", participant_identity="twin")
    second = push(own_stack, other, ports, "second")
    await own_stack.wait_state(other.ingress_id, "PUBLISHING", 20)
    await asyncio.to_thread(first.wait_exit, 20)
    state = await own_stack.wait_state(one.ingress_id, "ERROR")
    assert (state.started_at, state.resource_id) == (before.started_at, before.resource_id)
    assert state.error.startswith("room disconnected") and "identity" in state.error, state.error
    await held(own_stack, other, "PUBLISHING", 5)
    participant = await own_stack.wait_participant("same", "twin", tracks=2)
    assert participant.attributes["ingress.ingressID"] == other.ingress_id
    assert reports.statuses(one.ingress_id) == ["BUFFERING", "PUBLISHING", "ERROR"]
    assert reports.statuses(other.ingress_id) == ["BUFFERING", "PUBLISHING"] and second.running()
    reports.close()


# livekit-server -------------------------------------------------------------------------------------------------------------


async def test_livekit_server_is_away_at_the_end_of_a_stream(own_stack):
    """It is killed, and while it is away the stream ends, and then the process; who starts next stores what is left."""
    own_stack.start()
    info, encoder, before = await publishing(own_stack, "away")
    own_stack.livekit.kill()
    encoder.hang_up()
    await asyncio.to_thread(own_stack.ingress.wait_log, '"status":"Inactive"', 10)
    await asyncio.sleep(5)  # the report has failed by then, and stands in the record
    own_stack.ingress.signal(signal.SIGINT)
    await asyncio.to_thread(own_stack.ingress.wait_exit, 15)
    own_stack.start_livekit()
    own_stack.start_ingress()
    state = await own_stack.wait_state(info.ingress_id, "INACTIVE", 30)
    assert (state.started_at, state.error) == (before.started_at, "")


async def test_livekit_server_shuts_down(own_stack):
    own_stack.start()
    info, encoder, _ = await publishing(own_stack, "down")
    for _ in range(2):  # the first waits for rooms to become empty
        own_stack.livekit.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
    await asyncio.to_thread(encoder.wait_exit, 20)
    await asyncio.to_thread(own_stack.livekit.wait_exit, 20)
    own_stack.start_livekit()
    state = await own_stack.wait_state(info.ingress_id, "ERROR", 30)
    assert state.error.startswith("room disconnected"), state.error


@pytest.mark.seconds(150)
async def test_livekit_server_is_away_for_longer_than_a_session_waits(own_stack):
    """Killed, and back after 95 s: the session has ended by then, with an end that could not be stored until now."""
    own_stack.start()
    info, encoder, before = await publishing(own_stack, "long")
    own_stack.livekit.kill()
    back = time.monotonic() + 95
    await asyncio.to_thread(encoder.wait_exit, 80)
    assert time.monotonic() < back
    await asyncio.sleep(back - time.monotonic())
    own_stack.start_livekit()
    state = await own_stack.wait_state(info.ingress_id, "ERROR", 30)
    assert state.error.startswith("room disconnected unexpectedly"), state.error
    assert (state.started_at, state.resource_id) == (before.started_at, before.resource_id)


# stalls ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stalling_stack():
    yield from run(Stack("stall_timeout: 12s"))


@pytest.mark.words("stopped")
async def test_a_source_that_stalls_is_named_and_ended(stalling_stack):
    stack = stalling_stack.start()
    info, encoder, _ = await publishing(stack, "stall")
    stalled = lambda: stack.metric("ingress_stalled_sources")

    async def named(wanted, seconds):
        end = time.monotonic() + seconds
        while ("stopped" in (state := (await stack.info(info.ingress_id)).state).error, stalled()) != wanted:
            assert time.monotonic() < end and status_name(state) == "PUBLISHING", (state, stalled())
            await asyncio.sleep(0.1)

    await named((False, 0), 1)
    encoder.signal(signal.SIGSTOP)
    await named((True, 1), 10)
    encoder.signal(signal.SIGCONT)
    await named((False, 0), 10)
    encoder.signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        state = await stack.wait_state(info.ingress_id, "ERROR", 30)
        assert 10 < time.monotonic() - began < 20
        assert "no media has come for 12 s" in state.error
        assert (stalled(), stack.metric("ingress_source_stalls_total", type="rtmp")) == (0, 2)
    finally:
        encoder.signal(signal.SIGCONT)
    await asyncio.to_thread(encoder.wait_exit, 15)


# keys -----------------------------------------------------------------------------------------------------------------------


async def test_no_key_is_left_for_ever(own_stack):
    own_stack.start()
    redis = lambda *words: subprocess.run(
        ["redis-cli", "-p", str(own_stack.port["redis"]), *words], check=True, capture_output=True).stdout.decode(errors="replace").split()
    records = lambda: redis("hkeys", "{ingress}_instances")
    info, encoder, _ = await publishing(own_stack, "keys")
    [record] = records()
    assert int(redis("ttl", "{ingress}_instances")[0]) > 0
    assert info.stream_key not in " ".join(redis("hvals", "{ingress}_instances"))
    own_stack.ingress.signal(signal.SIGTERM)
    encoder.hang_up()
    await asyncio.to_thread(own_stack.ingress.wait_exit, 15)
    assert records() == []
    ours = [key for key in redis("keys", "{ingress}_instance*")]
    assert ours == [], ours
