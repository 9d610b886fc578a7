"""Every encoder: what they are called differs in how they greet, what they announce, how they pack and which codecs they bring."""

import asyncio
import ssl
import socket

import pytest

from rig import Feeder, Push, Source, Stack, Viewer, ffmpeg9, flv, numbered_clip
from rig.certificates import certify
from rig.media import AAC


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """The tags of a clip of six seconds with a tone of 330 Hz."""
    return flv.read(numbered_clip(tmp_path_factory.mktemp("film") / "film.flv", 6))


async def seen_and_heard(viewer, count=30):
    numbers = await viewer.wait_numbers(count)
    await viewer.wait_tone(330)
    return numbers


# FFmpeg 9 and Enhanced RTMP -------------------------------------------------------------------------------------------------

X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30"]
HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-x265-params", "keyint=30:log-level=error:pools=1"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-g", "30", "-svtav1-params", "pred-struct=1:lp=1", "-pix_fmt", "yuv420p"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-pix_fmt", "yuv420p"]
KINDS = {
    "H.264-AAC": (X264, AAC, "video/H264", "audio/aac"),
    "HEVC-AAC": (HEVC, AAC, "video/x-h265", "audio/aac"),
    "AV1-AAC": (AV1, AAC, "video/x-av1", "audio/aac"),
    "VP9-Opus": (VP9, ["-c:a", "libopus"], "video/x-vp9", "audio/opus"),
    "H.264-AC-3": (X264, ["-c:a", "ac3"], "video/H264", "audio/x-ac3"),
    "HEVC-FLAC": (HEVC, ["-c:a", "flac"], "video/x-h265", "audio/x-flac"),
    "H.264-E-AC-3": (X264, ["-c:a", "eac3"], "video/H264", "audio/x-eac3"),
}


@pytest.mark.core
@pytest.mark.parametrize("kind", KINDS)
async def test_ffmpeg9(stack, kind):
    """Codecs that only Enhanced RTMP carries: pictures seen and sound heard, and the state names them."""
    pictures, sound, video, audio = KINDS[kind]
    room = f"ffmpeg9-{kind}"
    info = await stack.create(room)
    async with Viewer(stack, room) as viewer:
        target = f"{stack.rtmp_url}/{info.stream_key}"
        source = Source(target, stack.dir / f"{room}.log", size=(320, 180), fps=15, coding=pictures, sound=sound, program=ffmpeg9()).start()
        try:
            await seen_and_heard(viewer)
            state = await stack.wait_state(info.ingress_id, "PUBLISHING")
            assert (state.video.mime_type, state.audio.mime_type) == (video, audio)
        finally:
            await source.stop()


# GStreamer, OBS and Flash's kin ---------------------------------------------------------------------------------------------


async def test_gstreamer(stack, ended):
    info = await stack.create("gstreamer")
    pipeline = (
        f"-q flvmux name=mux streamable=true ! rtmp2sink location={stack.rtmp_url}/{info.stream_key} "
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! "
        "x264enc speed-preset=veryfast key-int-max=60 bframes=2 bitrate=500 ! h264parse ! mux. "
        "audiotestsrc is-live=true freq=330 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux."
    )
    program = ended(stack.program("gstreamer", ["gst-launch-1.0", *pipeline.split()]))
    async with Viewer(stack, "gstreamer") as viewer:
        await viewer.wait("30 pictures", lambda v: len(v.frames) > 30)
        await viewer.wait_tone(330)
        assert viewer.frames[-1][2:] == (320, 180)
        await stack.wait_state(info.ingress_id, "PUBLISHING")
    program.signal(2)  # as a user ends it; rtmp2sink says goodbye
    await stack.wait_state(info.ingress_id, "INACTIVE")


# What OBS 30 says in connect, and what it wants to know of the server.
OBS = dict(type="nonprivate", flashVer="FMLE/3.0 (compatible; FMSc/1.0)", swfUrl="rtmp://127.0.0.1/live", fourCcList=["av01", "vp09", "hvc1"])


async def by_hand(stack, room, play, check=seen_and_heard, hello="plain", greeting=None):
    """A Feeder in a new room, ended by its own goodbye."""
    info = await stack.create(room)
    async with Viewer(stack, room) as viewer, Feeder(stack, info.stream_key, hello, greeting) as feeder:
        playing = asyncio.create_task(play(feeder))
        try:
            await check(viewer)
            await stack.wait_state(info.ingress_id, "PUBLISHING")
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await feeder.goodbye()
        assert (await stack.wait_state(info.ingress_id, "INACTIVE")).error == ""
        return feeder


async def test_an_encoder_like_obs(stack, film):
    """Its greeting, its way to publish and its goodbye; and the server says which codecs it takes."""
    feeder = await by_hand(stack, "obs", lambda f: f.play(film), greeting=OBS)
    about, status = feeder.about
    assert status["code"] == "NetConnection.Connect.Success"
    assert {"av01", "vp09", "hvc1", "avc1"} <= set({**about, **status}["videoFourCcInfoMap"])


@pytest.mark.parametrize("scheme", ["digest0", "digest1"])
async def test_a_handshake_with_digests(stack, film, scheme):
    """As Flash Player and hardware encoders do it: the server's halves are signed, or the client leaves."""
    await by_hand(stack, scheme, lambda f: f.play(film), hello=scheme)


async def test_aggregate_messages(stack, film):
    """Flash Media Encoder packs many tags into one message."""

    async def play(feeder):
        heads = [t for t in film if flv.is_config(t) or t.kind == flv.DATA]
        await feeder.play(heads)
        media = [t for t in film if t not in heads]
        bundles = [media[i : i + 6] for i in range(0, len(media), 6)]
        await feeder.play([flv.Tag(flv.AGGREGATE, b[0].time, flv.aggregate(b)) for b in bundles])

    await by_hand(stack, "aggregates", play)


async def test_tracks_beyond_the_first(stack, film):
    """Enhanced RTMP's multitrack: the first of each kind is taken, and the log says that the others are not."""

    def video(track, tag):
        """The tag of an H.264 tag's track: packet type 6 (multitrack), one track in it (E-RTMP v2)."""
        frame, kind = tag.body[0] >> 4, 0 if flv.is_config(tag) else 1
        return bytes([0x80 | frame << 4 | 6, 0x00 | kind]) + b"avc1" + bytes([track]) + (tag.body[5:] if kind == 0 else tag.body[2:])

    async def play(feeder):
        tags = []
        for tag in film:
            tags.append(tag)
            if tag.kind == flv.VIDEO and (flv.is_config(tag) or flv.is_picture(tag)):
                tags.append(flv.Tag(flv.VIDEO, tag.time, video(1, tag)))
        await feeder.play(tags)

    await by_hand(stack, "multitrack", play)
    stack.ingress.wait_log("of several video tracks only the first is taken")


# RTMPS ----------------------------------------------------------------------------------------------------------------------


def replace(directory, name):
    """A certificate for `name` in the place of what was there."""
    files = directory / "cert.pem", directory / "key.pem"
    for file in files:
        file.unlink(missing_ok=True)
    certify(*files, name)


def shown_certificate(port):
    """What the server shows to whoever connects, DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as tls:
        return tls.getpeercert(binary_form=True)


@pytest.fixture(scope="module")
def secure_stack():
    """A stack with an RTMPS port."""
    from conftest import run

    stack = Stack()
    replace(stack.dir, "first.example")
    stack.ingress_yaml = f"rtmps_port: {stack.port['rtmps']}\nrtmps_cert_file: {stack.dir}/cert.pem\nrtmps_key_file: {stack.dir}/key.pem"
    for s in run(stack):
        yield s.start()


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps"])
async def test_an_encoder_that_is_killed_is_an_ordinary_end(secure_stack, scheme):
    """With TLS as without: it closes the connection, and has no time for TLS' goodbye."""
    stack = secure_stack
    info = await stack.create(f"killed-{scheme}")
    push = Push(stack, f"{scheme}://127.0.0.1:{stack.port[scheme]}/live/{info.stream_key}", name=f"killed-{scheme}", size=(320, 180))
    await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    push.kill()
    state = await stack.wait_state(info.ingress_id, "INACTIVE")
    assert state.error == ""


@pytest.mark.core
async def test_rtmps(secure_stack):
    """FFmpeg 9 pushes over TLS; the certificate follows its files while the stream goes on; plain RTMP there is told off."""
    stack, port = secure_stack, secure_stack.port["rtmps"]
    info = await stack.create("secure")
    async with Viewer(stack, "secure") as viewer:
        target = f"rtmps://127.0.0.1:{port}/live/{info.stream_key}"
        source = Source(target, stack.dir / "secure.log", size=(320, 180), fps=15, program=ffmpeg9(), extra=["-tls_verify", "0"]).start()
        try:
            await seen_and_heard(viewer)
            before = await asyncio.to_thread(shown_certificate, port)
            replace(stack.dir, "second.example")
            for _ in range(150):
                if (after := await asyncio.to_thread(shown_certificate, port)) != before:
                    break
                await asyncio.sleep(0.1)
            assert b"second.example" in after and b"first.example" in before
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                plain.sendall(b"\3" + bytes(1536))
                plain.settimeout(10)
                assert len(await asyncio.to_thread(plain.recv, 65536)) < 100, "no RTMP answer outside TLS"
            stack.ingress.wait_log("TLS handshake failed")
            await viewer.wait_numbers(10, over=viewer.numbers()[-1])
        finally:
            await source.stop()
