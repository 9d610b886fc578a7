"""What cameras do that RTSP does not foresee, from public reports: each is played right, with numbered pictures seen and a tone heard."""

import asyncio
import math
import re

import pytest

from conftest import run
from rig import Stack, Viewer, flv, free_ports, numbered_clip
from rig.camera import Camera
from rig.media import h264
from rig.pulls import URL, turn
from rig.together import at_once

SECONDS = 10


def no_count(lines):
    """No number on any answer."""
    return [line for line in lines if not line.startswith("CSeq")]


def miscounts(lines):
    return [f"CSeq: {int(line.split()[1]) + 1}" if line.startswith("CSeq") else line for line in lines]


def base(text):
    """A base of the description's addresses that is none."""
    return lambda lines: [f"Content-Base: {text}" if line.startswith("Content-Base") else line for line in lines]


def without_config(sdp):
    return re.sub(r"a=fmtp:97 .*\r\n", "", sdp)


def config_of_another(sdp):
    """The payload type of the sound is not that of its parameters, as a maker of cameras does."""
    return sdp.replace("a=fmtp:97", "a=fmtp:105")


def metadata(sdp):
    """A stream that nobody plays, as ONVIF has it, before the others."""
    onvif = "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:meta\r\n"
    return sdp.replace("m=video", onvif + "m=video", 1)


# What each does, and the film it sends.
HABITS = {
    "a mark on each slice": ("slices", dict(marks="each")),
    "a key picture as one unit": ("plain", dict(joined=True, sdp=lambda sdp: re.sub(r"(a=fmtp:96 packetization-mode=1).*\r\n", r"\1\r\n", sdp))),
    "no configuration of the sound": ("plain", dict(sdp=without_config)),
    "parameters of another payload type": ("plain", dict(sdp=config_of_another)),
    "answers without numbers": ("plain", dict(heads=no_count)),
    "answers that miscount": ("plain", dict(heads=miscounts)),
    "bytes between packets": ("plain", dict(garbage=50)),
    "a base that is no URL": ("plain", dict(heads=base("127.0.0.1:554/live/"))),
    "a base that is two": ("plain", dict(heads=base("rtsp://rtsp://127.0.0.1/live/"))),
    "metadata beside": ("plain", dict(sdp=metadata)),
    "pictures on two streams": ("plain", dict(twice=True)),
    "a session of five seconds": ("plain", dict(timeout=5)),
    "goodbye in the middle": ("plain", dict(bye=4)),
}
ALIASES = [*HABITS, "broken", "unknown", "vod"]


@pytest.fixture(scope="module")
def ports():
    return dict(zip(ALIASES, free_ports(len(ALIASES))))


@pytest.fixture(scope="module")
def stack(ports):
    # A password as people paste it.
    aliases = "\n".join(f'  {alias(name)}: "rtsp://admin:a/b#c@d?e@127.0.0.1:{port}/live"' for name, port in ports.items())
    for s in run(Stack(ingress_yaml=f"url: {{reconnect: 5s, timeout: 5s}}\nurl_aliases:\n{aliases}")):
        yield s.start()


def alias(name):
    return name.replace(" ", "-")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Tags of a clip, plain and with four slices a picture."""
    directory = tmp_path_factory.mktemp("films")
    coding = {"plain": h264(30), "slices": [*h264(30), "-x264-params", "slices=4:sliced-threads=0"]}
    return {name: flv.read(numbered_clip(directory / f"{name}.flv", SECONDS, coding=options)) for name, options in coding.items()}


async def pulled(stack, name):
    async with turn():
        return await stack.create(alias(name), input_type=URL, url=f"https://alias.invalid/{alias(name)}")


async def shown(viewer, pictures=200, readable=0.9):
    """So many pictures are seen, nine of ten with their number, and the tone is heard."""
    await viewer.wait("pictures", lambda v: len(v.frames) > pictures)
    await viewer.wait_tone(330)
    late = viewer.frames[30:]
    found = [f.number for f in late if f.number is not None]
    assert len(found) >= math.ceil(readable * len(late)), (len(found), len(late))


async def one(stack, films, ports, name):
    film, habits = HABITS[name]
    with Camera(ports[name], films[film], **habits) as camera:
        async with Viewer(stack, alias(name)) as viewer:
            info = await pulled(stack, name)
            # Ten seconds are more than any time-out here, and all of a clip.
            await shown(viewer, pictures=330)
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert state.error == "", state.error
        await stack.delete(info.ingress_id)
        return camera


GROUPS = [list(HABITS)[i : i + 4] for i in range(0, len(HABITS), 4)]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: f"{names[0]} to {names[-1]}")
async def test_habits_of_cameras(stack, films, ports, names):
    cameras = dict(zip(names, await at_once(*(one(stack, films, ports, name) for name in names))))
    if camera := cameras.get("a session of five seconds"):
        asked = [at for method, at in camera.requests if method == "GET_PARAMETER"]
        assert camera.connections == 1 and len(asked) >= 3, (camera.connections, camera.requests)
    if camera := cameras.get("goodbye in the middle"):
        assert camera.connections > 1


@pytest.mark.words("audio is left out")
async def test_a_stream_that_breaks_ends_alone(stack, films, ports):
    """Sound that no reader takes: its depayloader gives up, and the pictures go on. The state says so."""
    with Camera(ports["broken"], films["plain"], sdp=lambda sdp: without_config(sdp).replace("48000/2", "48001/2")) as camera:
        async with Viewer(stack, "broken") as viewer:
            info = await pulled(stack, "broken")
            await viewer.wait_numbers(100)
            async with asyncio.timeout(10):
                while "audio" not in (state := (await stack.info(info.ingress_id)).state).error:
                    await asyncio.sleep(0.2)
            assert state.status == state.ENDPOINT_PUBLISHING
        await stack.delete(info.ingress_id)


@pytest.mark.words("audio is left out")
async def test_a_codec_that_is_left_out_is_said(stack, films, ports):
    with Camera(ports["unknown"], films["plain"], sdp=lambda sdp: without_config(sdp).replace("mpeg4-generic/48000/2", "G726-32/8000")) as camera:
        async with Viewer(stack, "unknown") as viewer:
            info = await pulled(stack, "unknown")
            await viewer.wait_numbers(60)
            async with asyncio.timeout(10):
                while "audio is left out: RTP G726-32 can't be decoded here" not in (await stack.info(info.ingress_id)).state.error:
                    await asyncio.sleep(0.2)
        await stack.delete(info.ingress_id)


async def test_a_recording_ends(stack, films, ports):
    """What says where it ends is not asked for again."""
    with Camera(ports["vod"], films["plain"], bye=5, sdp=lambda sdp: sdp.replace("npt=now-", "npt=0-5.0")) as camera:
        async with Viewer(stack, "vod") as viewer:
            info = await pulled(stack, "vod")
            await viewer.wait_numbers(60)
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 20)
            assert (state.error, camera.connections) == ("", 1)
