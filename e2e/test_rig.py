"""The rig itself: what the other tests believe their instruments about."""

import numpy as np
import pytest
from livekit.protocol import ingress as pb

from rig.leaks import ALLOWED, Sample, judge
from rig.picture import BITS, read, strip, strip_height
from rig.reports import fields
from rig.rtmp import amf, unamf


@pytest.mark.parametrize("number", [0, 1, 30, 0b1010_1010_1010_1010_1010, (1 << BITS) - 1])
@pytest.mark.parametrize("size", [(1280, 720), (320, 180), (406, 720)])
def test_a_frame_number_can_be_read_back(number, size):
    width, height = size
    luma = np.full((height, width), 90, np.uint8)
    rows = strip_height(height)
    top = (height - rows) // 2
    luma[top : top + rows] = strip(number, width, height)
    assert read(luma) == number


def test_a_picture_without_a_strip_has_no_number():
    assert read(np.full((720, 1280), 125, np.uint8)) is None


def test_amf_values_come_back():
    values = ["publish", 3.0, None, {"code": "x", "on": True}]
    assert unamf(b"".join(map(amf, values))) == values


def test_protobuf_fields():
    state = pb.IngressState(status="ENDPOINT_ERROR", error="words", started_at=1 << 60)
    found = fields(state.SerializeToString())
    assert found[1] == 3 and found[2] == b"words" and found[7] == 1 << 60


def held(grow, noise=0):
    """Looks at a service for half an hour, of which these figures grow by so much from one to the next."""
    def figure(name, n):
        return 20 + n * grow.get(name, 0) + noise * (n % 3)

    return [Sample(60 * n, True, {name: figure(name, n) for name in ALLOWED}) for n in range(30)] + [Sample(30, False, dict.fromkeys(ALLOWED, 999))]


def test_a_leak_is_seen():
    assert judge(held({}), 7)[1] == []
    # A descriptor in five minutes, 0.2 MiB in a minute, a key that goes away and comes back, one that only comes.
    assert judge(held({"descriptors": 0.2, "parent PSS MiB": 0.2}), 7)[1] == ["parent PSS MiB", "descriptors"]
    assert judge(held({}, noise=1), 7)[1] == []
    assert judge(held({"Redis keys": 0.1}, noise=1), 7)[1] == ["Redis keys"]
    assert judge(held({"descriptors": -1}), 7)[1] == []
    once = held({})
    for sample in once[20:30]:
        sample.figures["Redis keys"] += 1
    assert judge(once, 7)[1] == ["Redis keys"], "one that came once, and stayed"


def test_a_run_too_short_to_tell_is_no_proof():
    lines, open_questions = judge(held({})[:2], 1)
    assert open_questions == [*ALLOWED] and {line["verdict"] for line in lines.values()} == {"too short to tell"}
