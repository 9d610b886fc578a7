"""WHIP with the clients people use: aiortc, FFmpeg's muxer, Chromium. What a viewer sees of each, and
what becomes of the session."""

import asyncio
import os
import re
import socket
import struct
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol import ingress as pb

from conftest import run
from rig import Stack, Viewer
from rig.browser import Browser, chromium
from rig.networks import TwoWays
from rig.plain_viewer import PlainViewer
from rig.whip import FRAGMENT, SDP, DatachannelWhip, FfmpegWhip, GstWhip, RustWhip, Whip, ask

WHIP = pb.IngressInput.WHIP_INPUT
HERE = Path(__file__).parent


async def create(stack, room, **fields):
    return await stack.create(room, WHIP, **fields)


async def seen(viewer, count=5):
    """Waits for pictures whose numbers go up, and for sound."""
    start = len(viewer.frames)
    await viewer.wait(f"{count} numbered pictures", lambda v: len({f.number for f in v.frames[start:]} - {None}) >= count)


@pytest.fixture(scope="module")
def browser(stack):
    if not chromium():
        pytest.fail("no chromium: run this through ./x, which installs it")
    program = Browser(stack.dir)
    yield program
    program.end()


@pytest.mark.core
@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_aiortc_passthrough(stack, reports, codec):
    room = f"aiortc-{codec}"
    info = await create(stack, room)
    async with Viewer(stack, room) as viewer, Whip(stack.whip_url, info.stream_key, codec=f"video/{codec}") as client:
        assert client.answer.status == 201, client.answer
        assert re.fullmatch(rf"/w/{info.stream_key}/WH_\w{{12}}", client.answer.headers["location"])
        assert re.fullmatch(r'"[\w+/]+"', client.answer.headers["etag"])
        await seen(viewer)
        await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert state.resource_id == client.answer.headers["location"].rsplit("/", 1)[1]
        assert (state.video.width, state.video.height) == (320, 180)
        done = await client.delete()
        assert (done.status, done.headers["access-control-allow-origin"]) == (200, "*")
        await stack.wait_state(info.ingress_id, "INACTIVE")
        await stack.wait_participant(room, f"{room}-pub", here=False)
        assert (await client.delete()).status == 404
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "INACTIVE"]
    metrics = stack.get("prometheus", "/metrics")[1]
    assert re.search(r'livekit_ingress_publish_status(_total)?\{[^}]*type="whip"[^}]*status="success"[^}]*\} [1-9]', metrics), metrics


@pytest.mark.parametrize("kind", ["video", "audio"])
async def test_audio_only_and_video_only(stack, kind):
    room = f"alone-{kind}"
    info = await create(stack, room)
    async with Viewer(stack, room) as viewer:
        async with Whip(stack.whip_url, info.stream_key, video=kind == "video", audio=kind == "audio") as client:
            assert client.answer.status == 201, client.answer
            await (seen(viewer) if kind == "video" else viewer.wait_sound())
            await stack.wait_state(info.ingress_id, "PUBLISHING")
            await client.delete()
    await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.parametrize("client", [FfmpegWhip, DatachannelWhip, RustWhip], ids=["ffmpegs-muxer", "libdatachannel", "webrtc-rs"])
async def test_other_webrtc_stacks(stack, ended, client):
    """FFmpeg's own, libdatachannel, which OBS is built on, with the offer that OBS makes, and webrtc-rs."""
    room = client.__name__
    info = await create(stack, room)
    async with Viewer(stack, room) as viewer:
        sender = ended(client(stack, stack.whip_url, info.stream_key))
        await viewer.wait_size(320, 180)
        await viewer.wait_sound()
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        sender.signal(2)
        await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.parametrize("codec,transport", [("H264", "udp"), ("VP8", "tcp")])
async def test_gstreamers_webrtcbin(stack, ended, codec, transport):
    """It has an RSA certificate and sends its handshake in small pieces; and it is a foreign client of ICE over TCP."""
    info = await create(stack, f"gst-{transport}")
    async with Viewer(stack, f"gst-{transport}") as viewer:
        client = ended(GstWhip(stack, stack.whip_url, info.stream_key, codec, transport, name=f"gst-{transport}"))
        await viewer.wait_size(320, 240)
        await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert codec.lower() in state.video.mime_type.lower()
        client.signal(2)
        await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.core
@pytest.mark.parametrize("transcode", [False, True], ids=["passed-on", "transcoded"])
async def test_h265(stack, ended, transcode):
    """Which livekit-server takes unless it is told otherwise, and of which few viewers see anything without transcoding."""
    room = f"h265-{transcode}"
    info = await create(stack, room, enable_transcoding=transcode)
    async with (Viewer if transcode else PlainViewer)(stack, room) as viewer:
        client = ended(GstWhip(stack, stack.whip_url, info.stream_key, "H265", name=room))
        await viewer.wait_size(320, 240)
        await viewer.wait("more pictures", lambda v: len(v.frames) > 30)
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert "265" in state.video.mime_type or "hevc" in state.video.mime_type, state.video
        assert (state.video.width, state.video.height) == (320, 240)
        client.signal(2)
        await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.words("it has B-frames")
async def test_a_late_viewer_sees_open_gop_h265(stack, ended):
    """Key pictures that are no IDR, and parameter sets that were sent once, before anybody watched."""
    info = await create(stack, "open")
    client = ended(GstWhip(stack, stack.whip_url, info.stream_key, "H265-open", name="open"))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    await asyncio.sleep(1.5)  # a group of pictures and a half
    async with PlainViewer(stack, "open") as viewer:
        await viewer.wait_size(320, 240)
        await viewer.wait("more pictures", lambda v: len(v.frames) > 30)
        client.signal(2)
        await stack.wait_state(info.ingress_id, "INACTIVE")


def strangers_datagrams(ufrag):
    """Pieces of STUN, DTLS, RTP and RTCP as somebody sends them who belongs to no session; some name one that runs."""
    def stun(user):
        attribute = struct.pack("!HH", 6, len(user)) + user + bytes(-len(user) % 4)
        return struct.pack("!HHI", 1, len(attribute), 0x2112A442) + os.urandom(12) + attribute

    hello = b"\x01" + bytes(2) + b"\x40" + bytes(5) + b"\x00\x00\x40" + b"\xfe\xfd" + os.urandom(62)
    dtls = b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(hello)) + hello
    return [
        stun(b"nobody:nobody"), stun(ufrag.encode() + b":x"), stun(b"\xff" * 300), stun(ufrag.encode())[:25], dtls, dtls[:20],
        b"\x80\x60" + os.urandom(1000), b"\x80\xc8\x00\x06" + os.urandom(24), b"", os.urandom(1400), bytes(1400),
    ]


async def test_a_flood_of_strangers_datagrams(stack):
    """On the port of all sessions, while one plays: it plays on, and the next one gets in."""
    info = await create(stack, "storm")
    async with Viewer(stack, "storm") as viewer, Whip(stack.whip_url, info.stream_key) as client:
        await seen(viewer)
        junk = strangers_datagrams(re.search(r"a=ice-ufrag:(\S+)", client.answer.body)[1])
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        try:
            for _ in range(100):
                for stranger in sockets:
                    for data in junk:
                        stranger.sendto(data, ("127.0.0.1", stack.port["whip_udp"]))
                await asyncio.sleep(0.01)  # the viewer lives in this process too
            await seen(viewer)
            async with Whip(stack.whip_url, info.stream_key) as late:
                assert late.answer.status == 201
                await seen(viewer)
                await viewer.wait_sound()
                assert stack.ingress.running() and "panicked" not in stack.ingress.text()
                await late.delete()
        finally:
            for stranger in sockets:
                stranger.close()
    await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.words("has stopped")
async def test_a_client_that_vanishes(stack, ended):
    """Killed, so that it says nothing: the session ends in words, and soon."""
    info = await create(stack, "vanish")
    client = ended(FfmpegWhip(stack, stack.whip_url, info.stream_key, name="vanish"))
    await stack.wait_state(info.ingress_id, "PUBLISHING")
    client.kill()
    state = await stack.wait_state(info.ingress_id, "ERROR", seconds=20)
    assert state.error and "timeout" not in state.error, state.error
    await stack.wait_participant("vanish", "vanish-pub", here=False)


@pytest.mark.core
@pytest.mark.parametrize("codec", ["H264", "VP8", "VP9", "AV1"])
async def test_chromium_with_each_codec(stack, browser, codec):
    room = f"chromium-{codec}"
    info = await create(stack, room)
    async with Viewer(stack, room) as viewer, browser.page() as page:
        answer = await page.start(stack.whip_url, info.stream_key, codec=codec, width=320, height=180)
        if "unsupported" in answer:
            pytest.skip(f"this Chromium has no encoder for {codec}")
        assert answer["status"] == 201, answer
        await seen(viewer)
        await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "PUBLISHING")
        assert codec.lower() in state.video.mime_type.lower()
        assert await page.run("whip.remove()") == 200
        await stack.wait_state(info.ingress_id, "INACTIVE")


async def test_chromium_trickles_and_restarts_ice(stack, browser):
    """Candidates come after the offer; later new ones in place of them, as after a change of network. The picture goes on."""
    info = await create(stack, "trickle")
    async with Viewer(stack, "trickle") as viewer, browser.page() as page:
        answer = await page.start(stack.whip_url, info.stream_key, codec="VP8", width=320, height=180, trickle=True)
        assert (answer["status"], answer["patched"]) == (201, 204), answer
        await seen(viewer)
        restarted = await page.run("whip.restartIce()")
        assert restarted["status"] == 200 and restarted["changed"], restarted
        assert "a=ice-ufrag:" in restarted["fragment"] and "a=candidate:" in restarted["fragment"]
        await seen(viewer, 15)
        assert (await page.run("whip.stats()"))["state"] == "connected"
        # The old ICE session is over, and so is its ETag.
        assert await page.run(f"whip.patch({answer['etag']!r}, whip.fragment()).then(a => a.status)") == 412
        await page.run("whip.remove()")
    await stack.wait_state(info.ingress_id, "INACTIVE")


class OnTwoWays(Stack):
    """Takes media at an address that a client reaches by either of `ways`."""

    def __init__(self, ways):
        super().__init__()
        self.ways = ways
        self.whip_url = f"http://{ways.address}:{self.port['whip']}/w"

    def ingress_config(self, ports=None):
        yaml = super().ingress_config(ports).replace("bind_address: 127.0.0.1\n", "")
        media = f"interfaces: {{includes: [{self.ways.ours[0]}]}}"
        return yaml.replace("node_ip: 127.0.0.1", f"node_ip: {self.ways.address}").replace("interfaces: {includes: [lo]}", media)


@pytest.mark.parametrize("camera", [False, True], ids=["told", "by-itself"])
async def test_chromium_changes_its_network(camera):
    """The way that media takes is cut. A page that may use a camera has others ready, and its media goes on by one that no
    candidate told of; another page offers what it finds in an ICE restart. Participant and tracks stay."""
    with TwoWays() as ways:
        for stack in run(OnTwoWays(ways)):
            stack.start()
            browser = Browser(stack.dir, ways, f"http://{ways.address}:{stack.port['whip']}" if camera else None)
            stack.programs.append(browser)
            info = await create(stack, "moving")
            async with Viewer(stack, "moving") as viewer, browser.page() as page:
                answer = await page.start(stack.whip_url, info.stream_key, codec="VP8", width=320, height=180)
                assert answer.get("status") == 201, answer
                await seen(viewer)
                before = await stack.wait_participant("moving", "moving-pub", tracks=2)
                ways.take_down("eth0")
                if camera:
                    await asyncio.sleep(0.5)  # what was on its way has come
                    await seen(viewer)
                while "198.18.0.2" in await page.run("whip.addresses()"):
                    await asyncio.sleep(0.1)  # Chromium looks every two seconds
                restarted = await page.run("whip.restartIce()")
                assert restarted["status"] == 200 and restarted["changed"], restarted
                offered = await page.run("whip.fragment()")
                assert "198.18.1.2 " in offered and "198.18.0.2 " not in offered, offered
                await seen(viewer, 15)
                after = await stack.participant("moving", "moving-pub")
                assert (after.sid, {t.sid for t in after.tracks}) == (before.sid, {t.sid for t in before.tracks})
                assert await page.run("whip.remove()") == 200
            await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.parametrize("rids", [[["q", 4], ["h", 2], ["f", 1]], [["high", 1], ["low", 2]]], ids=["three", "two"])
@pytest.mark.parametrize("codec", ["VP8", "H264", "VP9", "AV1"])
async def test_chromium_simulcast(stack, browser, codec, rids):
    """A viewer that asks for a layer gets it, whatever the layers are called and in whichever order they stand."""
    room = f"simulcast-{codec}-{len(rids)}"
    info = await create(stack, room)
    async with Viewer(stack, room) as viewer, browser.page() as page:
        # Chromium sends three layers from 960x540 on only (544 halves twice); and VP9 and AV1 as one stream of layers unless it is
        # told not to.
        width, height = (960, 544) if len(rids) == 3 else (640, 360)
        svc = "L1T1" if codec in ("VP9", "AV1") else None
        answer = await page.start(
            stack.whip_url, info.stream_key, codec=codec, width=width, height=height, fps=10, rids=rids, svc=svc
        )
        assert answer.get("status") == 201, answer
        shares = sorted(by for _, by in rids)
        steps = [("HIGH", shares[0]), ("LOW", shares[-1]), *[("MEDIUM", by) for by in shares[1:-1]], ("HIGH", shares[0])]
        for quality, by in steps:
            await viewer.wait("a picture", lambda v: v.video)
            await viewer.ask(quality)
            await viewer.wait_size(width // by, height // by)
        await page.run("whip.remove()")
    await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.parametrize("codec,mode,transcode", [
    ("VP9", "L1T3", False), ("VP9", "L3T3", False), ("VP9", "L2T3_KEY", False), ("VP9", "L2T3", True),
    ("AV1", "L1T3", False), ("AV1", "L3T3", False), ("AV1", "L2T3_KEY", False), ("AV1", "L2T3", True),
])
async def test_chromium_svc(stack, browser, codec, mode, transcode):
    """The highest of them is what is seen; or the one that is asked for, where the server takes the layers apart."""
    room = f"svc-{codec}-{mode}-{transcode}"
    info = await create(stack, room, enable_transcoding=transcode)
    layers = int(mode[1])
    # Chromium makes two layers of anything smaller.
    width, height = (1280, 720) if layers == 3 else (640, 360)
    async with Viewer(stack, room) as viewer, browser.page() as page:
        answer = await page.start(
            stack.whip_url, info.stream_key, codec=codec, width=width, height=height, fps=10, svc=mode
        )
        assert answer.get("status") == 201, answer
        await viewer.wait_size(width, height)
        await seen(viewer, 15)
        sent = await page.run("whip.stats()")
        assert [layer["svc"] for layer in sent["layers"]] == [mode], sent
        if not transcode:
            for quality, layer in [("LOW", 0), ("MEDIUM", 1), ("HIGH", 2)][:layers] if layers > 1 else []:
                await viewer.ask(quality)
                by = 2 ** (layers - 1 - layer)
                await viewer.wait_size(width // by, height // by)
        await page.run("whip.remove()")
    await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.core
async def test_transcoded(stack):
    info = await create(stack, "transcoded", enable_transcoding=True)
    async with Viewer(stack, "transcoded") as viewer:
        async with Whip(stack.whip_url, info.stream_key, codec="video/VP8", size=(640, 360)) as client:
            assert client.answer.status == 201, client.answer
            await seen(viewer)
            await viewer.wait_sound()
            await stack.wait_state(info.ingress_id, "PUBLISHING")
            await client.delete()
    await stack.wait_state(info.ingress_id, "INACTIVE")


async def test_any_machine_serves_a_session(stack, ended):
    """What comes to another machine behind the balancer: candidates, a restart, the end."""
    program, ports = stack.start_another()
    ended(program)
    info = await create(stack, "elsewhere")
    async with Viewer(stack, "elsewhere") as viewer:
        async with Whip(stack.whip_url, info.stream_key) as client:
            await seen(viewer)
            there = f"http://127.0.0.1:{ports['whip']}{client.answer.headers['location']}"
            wrong = there.replace(info.stream_key, "wrongwrong12")
            end = "a=end-of-candidates\r\n"
            etag = client.answer.headers["etag"]

            async def patch(where, match):
                return await ask("PATCH", where, credentials + end, {**FRAGMENT, "If-Match": match})

            offer = client.connection.localDescription.sdp
            credentials = "".join(line + "\r\n" for line in offer.splitlines() if line.startswith("a=ice-"))[:400]
            assert (await patch(there, '"other"')).status == 412
            assert (await patch(wrong, etag)).status == 404  # nobody has this key
            trickled = await patch(there, etag)
            assert trickled.status == 204, trickled
            assert (await ask("DELETE", wrong)).status == 404
            assert (await ask("DELETE", there.rsplit("/", 1)[0] + "/WH_000000000000")).status == 404
            await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert (await ask("DELETE", there)).status == 200
            await stack.wait_state(info.ingress_id, "INACTIVE")
            assert (await ask("DELETE", there)).status == 404


async def test_whole_sdps_as_fragments(stack):
    """The form that the Go ingress asks for, of which clients are written for it: candidates, then a restart. And a key in
    the path whose letters are written as escapes, as some clients write them."""
    info = await create(stack, "whole")
    escaped = "".join(f"%{ord(letter):02x}" for letter in info.stream_key)
    async with Whip(f"{stack.whip_url}/{escaped}", "") as client:
        assert client.answer.status == 201, client.answer
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        offer = client.connection.localDescription.sdp
        headers = {**FRAGMENT, "If-Match": client.answer.headers["etag"]}
        assert (await ask("PATCH", client.session, offer, headers)).status == 204
        fresh = re.sub(r"a=ice-pwd:\S+", "a=ice-pwd:" + "p" * 22, re.sub(r"a=ice-ufrag:\S+", "a=ice-ufrag:newer", offer))
        restarted = await ask("PATCH", client.session, fresh, {**FRAGMENT, "If-Match": "*"})
        assert restarted.status == 200 and restarted.body.startswith("v=0\r\n"), restarted
        assert restarted.headers["etag"] != client.answer.headers["etag"]
        names = re.findall(r"a=ice-ufrag:(\S+)", restarted.body)
        assert names and not set(names) & set(re.findall(r"a=ice-ufrag:(\S+)", client.answer.body))
        assert restarted.body.count("m=") == offer.count("m=")
        assert (await ask("DELETE", client.session)).status == 200
    await stack.wait_state(info.ingress_id, "INACTIVE")


@pytest.mark.parametrize("what", ["update", "delete", "room"])
async def test_update_and_delete_end_a_session(stack, reports, what):
    room = f"operated-{what}"
    info = await create(stack, room)
    async with Whip(stack.whip_url, info.stream_key, video=False) as client:
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        async with stack.api() as lk:
            if what == "update":
                await lk.ingress.update_ingress(pb.UpdateIngressRequest(ingress_id=info.ingress_id, name="other", participant_identity="other", room_name=room))
            elif what == "delete":
                await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=info.ingress_id))
            else:
                await lk.room.delete_room(api.DeleteRoomRequest(room=room))
        if what == "delete":
            await stack.wait_participant(room, f"{room}-pub", here=False)
        else:
            state = await stack.wait_state(info.ingress_id, "INACTIVE" if what == "update" else "ERROR")
            assert bool(state.error) == (what == "room")
        end = asyncio.get_running_loop().time() + 10
        while (await client.delete()).status != 404:
            assert asyncio.get_running_loop().time() < end, "the session can still be asked"
            await asyncio.sleep(0.1)  # who asks in a loop for what is not there is charged for it
    statuses = reports.statuses(info.ingress_id)
    assert statuses == {"update": ["BUFFERING", "PUBLISHING", "INACTIVE"], "delete": ["BUFFERING", "PUBLISHING"],
                        "room": ["BUFFERING", "PUBLISHING", "ERROR"]}[what]


async def test_a_second_client_takes_over(stack, reports):
    info = await create(stack, "takes-over")
    async with Viewer(stack, "takes-over") as viewer, Whip(stack.whip_url, info.stream_key) as old:
        await seen(viewer, 20)
        before = await stack.wait_participant("takes-over", "takes-over-pub", tracks=2)
        switched = len(viewer.frames)
        async with Whip(stack.whip_url, info.stream_key) as new:
            assert new.answer.status == 201 and new.answer.headers["location"] != old.answer.headers["location"]
            await viewer.wait("the new one", lambda v: any(f.number is not None and f.number < 15 for f in v.frames[switched:]))
            await seen(viewer)
            # The first one's goodbye does not end the second.
            assert (await old.delete()).status == 404
            await seen(viewer)
            after = await stack.participant("takes-over", "takes-over-pub")
            assert (after.sid, {t.sid for t in after.tracks}) == (before.sid, {t.sid for t in before.tracks})
            assert (await new.delete()).status == 200
    await stack.wait_state(info.ingress_id, "INACTIVE")
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "INACTIVE"]


async def test_an_offer_by_obs(stack):
    """OBS's offer (libdatachannel): ICE and fingerprint for the whole session, a group it need not be told of, no trickling."""
    info = await create(stack, "obs")
    offer = (HERE / "data" / "obs-offer.sdp").read_bytes()
    answer = await ask("POST", stack.whip_url, offer, {**SDP, "Authorization": f"Bearer {info.stream_key}", "User-Agent": "Mozilla/5.0 (OBS-Studio/31.0.0; Linux x86_64; en-US)"})
    assert answer.status == 201, answer
    lines = answer.body.splitlines()
    media = [line.split()[0] for line in lines if line.startswith("m=")]
    assert media == ["m=audio", "m=video"] and not any(line.split()[1] == "0" for line in lines if line.startswith("m="))
    assert any(re.fullmatch(r"a=rtpmap:96 H264/90000", line) for line in lines)
    assert any(re.fullmatch(r"a=rtpmap:111 opus/48000/2", line) for line in lines)
    assert any(line.startswith("a=candidate:") and "127.0.0.1" in line for line in lines)
    assert lines.count("a=recvonly") == 2 and lines.count("a=rtcp-mux") == 2
    location = answer.headers["location"]
    assert (await ask("DELETE", f"http://127.0.0.1:{stack.port['whip']}{location}")).status == 200


@pytest.fixture(scope="module")
def strict_stack():
    """A stack that refuses second pushes, has no room for a session that is passed on beside another, and drains."""
    costs = "on_duplicate: refuse\ndrain_timeout: 60s\n"
    for s in run(Strict(costs)):
        yield s.start()


class Strict(Stack):
    def ingress_config(self, ports=None):
        return super().ingress_config(ports).replace("whip_bypass_transcoding_cpu_cost: 0,", "whip_bypass_transcoding_cpu_cost: 1000,")

    def wait_available(self, seconds=20):
        """Not waited for: whether there is room for a session so dear depends on how busy the machine is with tests."""


async def test_refusals_full_in_use_draining(strict_stack):
    stack = strict_stack
    # A transcoded one costs nothing here, and so is let in however busy the machine is.
    info, other = await create(stack, "strict", enable_transcoding=True), await create(stack, "strict-other")
    async with Whip(stack.whip_url, info.stream_key, video=False) as client:
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        async with Whip(stack.whip_url, info.stream_key, video=False) as second:
            assert second.answer.status == 409 and "in use" in second.answer.body, second.answer
        async with Whip(stack.whip_url, other.stream_key, video=False) as full:
            assert full.answer.status == 503 and "full" in full.answer.body and int(full.answer.headers["retry-after"]) > 0
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        stack.ingress.signal(15)
        await asyncio.to_thread(stack.ingress.wait_log, "draining")
        async with Whip(stack.whip_url, other.stream_key, video=False) as late:
            assert late.answer.status == 503 and "shutting down" in late.answer.body, late.answer
            assert late.answer.headers["access-control-allow-origin"] == "*" and "retry-after" in late.answer.headers
        assert stack.get("whip", "/availability")[0] == 503
        # The session that runs goes on, and can still be ended by its client.
        assert (await client.delete()).status == 200
        assert await asyncio.to_thread(stack.ingress.wait_exit, 20) == 0
    await stack.wait_state(info.ingress_id, "INACTIVE")


class OnlyVp8(Stack):
    def livekit_config(self):
        codecs = "enabled_codecs: [{mime: audio/opus}, {mime: video/vp8}]"
        return super().livekit_config().replace("room: {enable_remote_unmute: true}", f"room: {{{codecs}}}")


async def test_codecs_the_room_refuses_are_refused():
    """A server tells it to who joins: the very first offer waits for that. Of several codecs the first that the room takes is
    chosen. What is transcoded may be anything; what comes out of it may not, which ends the session in words."""
    offer = (HERE / "data/obs-offer.sdp").read_text().replace("a=fmtp:96 ", "a=x:")
    for stack in run(OnlyVp8()):
        stack.start()
        for codec in ("H264", "H265", "AV1", "VP9"):
            info = await create(stack, codec)
            headers = {**SDP, "Authorization": f"Bearer {info.stream_key}"}
            answer = await ask("POST", stack.whip_url, offer.replace("H264", codec), headers)
            assert answer.status == 406 and f"livekit-server does not accept {codec} video" in answer.body and "send VP8" in answer.body, answer
            assert (await stack.wait_state(info.ingress_id, "ERROR")).error == answer.body
            await stack.wait_participant(codec, f"{codec}-pub", here=False)
        several = offer.replace("H264/90000", "H265/90000\r\na=rtpmap:97 VP8/90000").replace("SAVPF 96", "SAVPF 96 97")
        answer = await ask("POST", stack.whip_url, several, headers)
        assert answer.status == 201 and "VP8" in answer.body and "H265" not in answer.body, answer
        decoded = await create(stack, "decoded", enable_transcoding=True)
        async with Whip(stack.whip_url, decoded.stream_key, codec="video/H264") as client:
            assert client.answer.status == 201
            state = await stack.wait_state(decoded.ingress_id, "ERROR", 20)
            assert "does not accept H264 video" in state.error and "room.enabled_codecs" in state.error, state.error


class OverIpv6(Stack):
    """Listens at all addresses, and takes media at the one that the filter leaves."""

    def ingress_config(self, ports=None):
        yaml = super().ingress_config(ports).replace("bind_address: 127.0.0.1\n", "")
        return yaml.replace("  interfaces: {includes: [lo]}", '  interfaces: {includes: [lo]}\n  ips: {includes: ["::1/128"]}')


async def test_ipv6():
    for stack in run(OverIpv6()):
        stack.start()
        info = await create(stack, "six")
        async with Viewer(stack, "six") as viewer:
            client = DatachannelWhip(stack, f"http://[::1]:{stack.port['whip']}/w", info.stream_key, address="::1")
            await viewer.wait_size(320, 180)
            await viewer.wait_sound()
            candidates = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+)", client.text())
            assert candidates == ["::1"], client.text()
            client.signal(2)
            await stack.wait_state(info.ingress_id, "INACTIVE")
