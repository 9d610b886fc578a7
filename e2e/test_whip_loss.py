"""WHIP over a bad network: what gets lost is asked for again, on the way to us, whether media is passed on or transcoded."""

import pytest
from aiortc import RTCSessionDescription
from livekit.protocol import ingress as pb

from rig import Viewer
from rig.lossy import Lossy, without_candidates
from rig.whip import SDP, Whip, ask


@pytest.mark.parametrize("transcode", [False, True], ids=["passed-on", "transcoded"])
async def test_one_packet_in_twenty_is_lost_and_some_come_late(stack, transcode):
    """With nothing asked for again, fewer than half of the pictures are seen."""
    room = f"loss-{transcode}"
    info = await stack.create(room, pb.IngressInput.WHIP_INPUT, enable_transcoding=transcode)
    client = Whip(stack.whip_url, info.stream_key, size=(640, 360), codec="video/VP8")
    async with Viewer(stack, room) as viewer:
        try:
            offer = without_candidates(await client.offer())
            answer = await ask("POST", client.url, offer, {**SDP, **client.headers})
            assert answer.status == 201, answer
            async with Lossy(answer.body, loss=0.05, reorder=0.02) as network:
                await client.connection.setRemoteDescription(RTCSessionDescription(network.answer, "answer"))
                first = (await viewer.wait_numbers(5))[-1]
                await viewer.wait("a hundred pictures later", lambda v: max(v.numbers()) > first + 100, 60)
                assert network.dropped > 10, "the network was good"
                seen = {n for n in viewer.numbers() if first < n <= first + 100}
                assert len(seen) >= 70, sorted(set(range(first + 1, first + 101)) - seen)
                await viewer.wait_sound()
        finally:
            await client.connection.close()
