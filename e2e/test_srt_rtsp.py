"""Live sources that are pulled: SRT called and waited for, RTSP over TCP and UDP, by address and by alias."""


import pytest
from livekit.protocol import ingress as pb

from conftest import run
from rig import Stack, Viewer, free_ports
from rig.processes import descendants, told
from rig.pulls import srt_sender

URL = pb.IngressInput.URL_INPUT
LOGIN = ("viewer", "pass-word-of-the-camera")


@pytest.fixture(scope="module")
def ports():
    return dict(zip(("rtsp", "login", "basic"), free_ports(3)))


@pytest.fixture(scope="module")
def stack(ports):
    """A stack that knows an alias, and that gives lost sources two seconds."""
    yaml = f"""
url: {{reconnect: 3s, timeout: 3s, deny: [denied.example, 127.0.0.66]}}
url_aliases:
  lobby: "rtsp://{LOGIN[0]}:{LOGIN[1]}@localhost:{ports["login"]}/live"
  basic: "rtsp://{LOGIN[0]}:{LOGIN[1]}@localhost:{ports["basic"]}/live"
  wrong: "rtsp://{LOGIN[0]}:other@localhost:{ports["login"]}/live"
  without: "rtsp://localhost:{ports["login"]}/live"
  elsewhere: "rtsp://{LOGIN[0]}:{LOGIN[1]}@127.0.0.1:{ports["login"]}/live"
  tcp: "rtsp://127.0.0.1:{ports["rtsp"]}/live"
  udp: "rtspu://127.0.0.1:{ports["rtsp"]}/live"
  none: "rtsp://127.0.0.1:{ports["rtsp"]}/none"
  reordered: "rtsp://127.0.0.1:{ports["rtsp"]}/reordered"
"""
    for s in run(Stack(ingress_yaml=yaml)):
        yield s.start()


async def shown(viewer):
    await viewer.wait_size(320, 180)
    await viewer.wait_sound()


@pytest.mark.core
async def test_srt_caller(stack, ended):
    """With a passphrase and a stream id; ends when its sender does."""
    [port] = free_ports(1)
    sender = ended(srt_sender(stack, f"srt://127.0.0.1:{port}?mode=listener&passphrase=long-enough-secret", "srt-listener"))
    async with Viewer(stack, "srt-called") as viewer:
        url = f"srt://127.0.0.1:{port}?mode=caller&passphrase=long-enough-secret&latency=100&streamid=a%2Fb"
        info = await stack.create("srt-called", input_type=URL, url=url)
        await shown(viewer)
        sender.signal(2)
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 20)
    assert (state.video.mime_type, state.audio.mime_type) == ("video/H264", "audio/aac")
    assert "long-enough-secret" not in stack.ingress.text()


@pytest.mark.core
async def test_srt_listener(stack, ended):
    [port] = free_ports(1)
    async with Viewer(stack, "srt-waited") as viewer:
        info = await stack.create("srt-waited", input_type=URL, url=f"srt://:{port}?mode=listener")
        await stack.wait_state(info.ingress_id, "BUFFERING")
        ended(srt_sender(stack, f"srt://127.0.0.1:{port}?mode=caller", "srt-caller", seconds=8))
        await shown(viewer)
        await stack.wait_state(info.ingress_id, "COMPLETE", 30)


async def test_an_srt_sender_reconnects(stack, ended):
    """Killed, it says no goodbye: another in its place goes on in the same session."""
    [port] = free_ports(1)
    url = f"srt://127.0.0.1:{port}?mode=listener"
    sender = ended(srt_sender(stack, url, "srt-first"))
    async with Viewer(stack, "srt-dies") as viewer:
        info = await stack.create("srt-dies", input_type=URL, url=f"srt://127.0.0.1:{port}")
        await shown(viewer)
        participant = await stack.participant("srt-dies", "srt-dies-pub")
        sender.kill()
        ended(srt_sender(stack, url, "srt-second"))
        seen = len(viewer.frames)
        await viewer.wait("picture after the other sender came", lambda v: len(v.frames) > seen + 60)
        assert (await stack.participant("srt-dies", "srt-dies-pub")).sid == participant.sid
        assert (await stack.wait_state(info.ingress_id, "PUBLISHING")).error == ""


@pytest.mark.parametrize(
    "url, words",
    [
        ("srt://127.0.0.1:{port}", "SRT"),
        ("srt://127.0.0.66:{port}", "must not be pulled from"),
        ("srt://127.0.0.1:{port}?passphrase=short", "passphrase"),
        ("http://127.0.0.66:{port}/a.mp4", "must not be pulled from"),
        ("http://denied.example/a.mp4", "must not be pulled from"),
        ("http://169.254.169.254/latest", "must not be pulled from"),
        # Of a private network no words tell which ports are open.
        ("http://127.0.0.1:{port}/a.mp4", "gives nothing that can be pulled (this server's log says why)"),
        ("http://no-such-name.invalid/a.mp4", "no-such-name.invalid"),
    ],
)
async def test_unusable_srt_and_rtsp_urls(stack, url, words):
    [port] = free_ports(1)
    room = f"line-{abs(hash(url)) % 10000}"
    info = await stack.create(room, input_type=URL, url=url.format(port=port))
    error = (await stack.wait_state(info.ingress_id, "ERROR", 30)).error
    assert words in error, error


@pytest.fixture(scope="module")
def rtsp(stack, ports):
    """Servers that anybody may ask, and two with logins that answer to one name alone."""
    for name, more in (("login", []), ("basic", ["basic"])):
        stack.start_rtsp(ports[name], *LOGIN, *more, "called", f"localhost:{ports[name]}", name=f"rtsp-{name}")
    return [stack.start_rtsp(ports["rtsp"])]


@pytest.mark.core
@pytest.mark.parametrize("alias", ["lobby", "basic"])
async def test_an_rtsp_camera_by_alias(stack, rtsp, alias):
    """Whoever makes the ingress does not learn the login, and the control plane lets the address pass."""
    async with Viewer(stack, alias) as viewer:
        info = await stack.create(alias, input_type=URL, url=f"https://alias.invalid/{alias}")
        await shown(viewer)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert (state.video.mime_type, state.audio.mime_type) == ("video/H264", "audio/aac")
        for pid in descendants(stack.ingress.pid)[1:]:
            assert LOGIN[1].encode() not in told(pid)
        await stack.delete(info.ingress_id)
        await stack.wait_participant(alias, f"{alias}-pub", here=False)
    assert LOGIN[1] not in stack.ingress.text()


@pytest.mark.core
async def test_an_rtsp_camera_over_udp(stack, rtsp, ports):
    """livekit-server refuses rtsp, so this goes by the alias that asks for UDP."""
    async with Viewer(stack, "udp") as viewer:
        info = await stack.create("udp", input_type=URL, url="https://alias.invalid/udp")
        await shown(viewer)
        await stack.delete(info.ingress_id)


async def test_an_rtsp_camera_with_b_frames(stack, rtsp):
    """RTP says when pictures are shown, and not when they are decoded."""
    async with Viewer(stack, "reordered") as viewer:
        info = await stack.create("reordered", input_type=URL, url="https://alias.invalid/reordered")
        await viewer.wait_numbers(60)
        await stack.delete(info.ingress_id)


async def test_an_rtsp_camera_that_restarts(stack, rtsp, ports):
    async with Viewer(stack, "restarts") as viewer:
        info = await stack.create("restarts", input_type=URL, url="https://alias.invalid/tcp")
        await shown(viewer)
        participant = await stack.participant("restarts", "restarts-pub")
        rtsp[0].kill()
        stack.start_rtsp(ports["rtsp"], name="rtsp-again")
        seen = len(viewer.frames)
        await viewer.wait("picture after the restart", lambda v: len(v.frames) > seen + 60)
        assert (await stack.participant("restarts", "restarts-pub")).sid == participant.sid
        await stack.delete(info.ingress_id)


@pytest.mark.parametrize(
    "alias, words",
    [
        ("wrong", "login is missing or wrong"),
        ("without", "login is missing or wrong"),
        ("none", "no such stream"),
        ("elsewhere", "no such stream"),
    ],
)
async def test_rtsp_cameras_that_refuse_the_login(stack, rtsp, alias, words):
    info = await stack.create(f"camera-{alias}", input_type=URL, url=f"https://alias.invalid/{alias}")
    error = (await stack.wait_state(info.ingress_id, "ERROR", 30)).error
    assert words in error, error
