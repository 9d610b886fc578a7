"""URLs that are pulled: files of all kinds over HTTP, and what servers do to them; HLS; what must not be pulled from."""

import asyncio
import os
import signal
import ssl
import struct
import time
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol import ingress as pb

from rig import Viewer, psrpc
from rig.certificates import certify
from rig.media import QUIET
from rig.processes import descendants, wait_for
from rig.pulls import AAC, BFRAMES, FAST, H264, fails, live_hls, make, plays, pull
from rig.web import Web

TERMINAL = {"INACTIVE", "ERROR", "COMPLETE"}


@pytest.mark.core
async def test_a_file_plays_from_first_to_last_frame(stack, web, reports):
    make(stack, "fast.mp4", *BFRAMES, *AAC, *FAST)
    info, state, _ = await plays(stack, "mp4", f"{web.url}/file/fast.mp4")
    assert state.resource_id.startswith("UR_")
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "COMPLETE"]
    assert 4 <= (state.ended_at - state.started_at) / 1e9 < 12


async def test_a_repeated_request_starts_no_second_session(stack, web, reports):
    """livekit-server asks again, with another request id, where an answer was too late for it."""
    make(stack, "fast.mp4", *BFRAMES, *AAC, *FAST)
    info = await pull(stack, "again", f"{web.url}/file/fast.mp4")
    state = await stack.wait_state(info.ingress_id, "PUBLISHING")
    request = psrpc.protobuf({1: info.SerializeToString()})
    answers = [await asyncio.to_thread(psrpc.call, stack, "IngressInternal", "StartIngress", request) for _ in range(2)]
    for answer in answers:
        again = pb.IngressInfo.FromString(answer).state
        assert (again.resource_id, again.started_at) == (state.resource_id, state.started_at)
    ended = await stack.wait_state(info.ingress_id, "COMPLETE")
    assert (ended.resource_id, ended.started_at) == (state.resource_id, state.started_at)
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "COMPLETE"]


async def test_unusual_http_servers(stack, web):
    """Redirects, chunked bodies, connections that break again and again or once without ranges, logins."""
    make(stack, "fast.mp4", *BFRAMES, *AAC, *FAST)
    make(stack, "big.mp4", *H264, *AAC, seconds=4, size="640x360")
    login = web.url.replace("//", "//viewer:pa%3Ass@")
    await asyncio.gather(
        plays(stack, "moved", f"{web.url}/moved/fast.mp4"),
        plays(stack, "chunked", f"{web.url}/chunked/fast.mp4"),
        plays(stack, "broken", f"{web.url}/broken/big.mp4", size=(640, 360)),
    )
    # Not all six together: on a slow machine the server gives a viewer its upper layer too late for films of four seconds.
    await asyncio.gather(
        plays(stack, "login", f"{login}/login/fast.mp4"),
        plays(stack, "relapse", f"{web.url}/relapse/fast.mp4"),
        plays(stack, "relapse-spooled", f"{web.url}/relapse/big.mp4", size=(640, 360)),
    )
    assert "pa:ss" not in stack.ingress.text() and "pa%3Ass" not in stack.ingress.text()


@pytest.mark.words("")
@pytest.mark.parametrize(
    "path, words",
    [
        ("file/none.mp4", "File not found"),
        ("status/403", "does not let us in"),
        ("login/fast.mp4", "a login is wanted"),
        ("status/500", "answers with an error: 500"),
        ("loop/x", "redirects"),
        ("file/page.html", "this is not media"),
        ("file/empty.mp4", "the file is empty"),
        ("cut/fast.mp4", "ended before all had come"),
        ("metadata/x", "must not be pulled from"),
        ("local/x", "unsupported URL type"),
        ("file/junk.mp4", "nothing in it could be decoded"),
        ("file/prores.mov", "none of its codecs can be decoded"),
    ],
)
async def test_each_fault_has_its_text(stack, web, path, words):
    make(stack, "fast.mp4", *BFRAMES, *AAC, *FAST)
    make(stack, "prores.mov", "-c:v", "prores", audio=False, seconds=1)
    (stack.dir / "page.html").write_text("<!DOCTYPE html><html><body>not found</body></html>")
    (stack.dir / "empty.mp4").write_bytes(b"")
    (stack.dir / "junk.mp4").write_bytes((stack.dir / "fast.mp4").read_bytes()[:3000] + b"\0" * 50000)
    error = await fails(stack, path.replace("/", "-"), f"{web.url}/{path}?token=secret-query")
    assert words in error, error
    assert "secret-query" not in error


async def test_the_end_is_reported_after_the_last_frame(stack, web):
    """Within two seconds, as users wait for it: files by ranges and without, MPEG-TS, HLS, and sound alone."""
    kinds = {
        "ends.mp4": ([*BFRAMES, *AAC, *FAST], "file"), "ends.mkv": ([*BFRAMES, *AAC], "plain"), "ends.ts": ([*BFRAMES, *AAC], "file"),
        "ends/list.m3u8": ([*H264, *AAC, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"], "file"), "ends.mp3": (["-c:a", "libmp3lame"], "file"),
    }

    async def one(name, coding, how):
        video = not name.endswith("mp3")
        make(stack, name, *coding, video=video, seconds=4, size="160x90")
        async with Viewer(stack, f"ends-{Path(name).suffix[1:]}") as viewer:
            info = await pull(stack, viewer.room_name, f"{web.url}/{how}/{name}")
            await viewer.wait("what it plays", lambda v: v.frames if video else v.levels)
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
            # A viewer's clock is this process's; states are told in the time since 1970. Silence goes on after the last sound.
            shown = [f.at for f in viewer.frames] if video else [at for at, level in viewer.levels if level > 300]
            return name, round(state.ended_at / 1e9 - (shown[-1] + time.time() - time.monotonic()), 2)

    took = [await one(name, *how) for name, how in kinds.items()]
    assert all(-1 < seconds < 2 for _, seconds in took), took


# HLS --------------------------------------------------------------------------------------------------------------------


def hls(stack, name, *options, seconds=6, coding=(*H264, *AAC)):
    """A playlist of so many seconds, in a directory of its own; made once."""
    return make(stack, f"{name}/list.m3u8", *coding, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", *options, seconds=seconds)


async def test_hls_variants(stack, web):
    """Segments of MPEG-TS and of fragmented MP4, parts of one file, encrypted ones, variants, a discontinuity."""
    hls(stack, "ts", coding=(*BFRAMES, *AAC))
    hls(stack, "fmp4", "-hls_segment_type", "fmp4")
    hls(stack, "ranges", "-hls_flags", "single_file")
    key = stack.dir / "key.bin"
    key.write_bytes(bytes(range(16)))
    (stack.dir / "key.info").write_text(f"{web.url}/file/key.bin\n{key}\n")
    hls(stack, "aes", "-hls_key_info_file", str(stack.dir / "key.info"), seconds=4)
    hls(stack, "large", seconds=4)
    hls(stack, "small", seconds=3)
    broken = (stack.dir / "small/list.m3u8").read_text().replace("#EXT-X-ENDLIST\n", "")
    again = (stack.dir / "small/list.m3u8").read_text()
    again = again[again.index("#EXTINF") :]
    (stack.dir / "small/twice.m3u8").write_text(broken + "#EXT-X-DISCONTINUITY\n" + again)
    (stack.dir / "master.m3u8").write_text(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=3840x2160\nnone.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x180\nlarge/list.m3u8\n"
    )
    lists = ["ts/list", "fmp4/list", "ranges/list", "aes/list", "small/twice", "master"]

    async def one(name):
        info, state, _ = await plays(stack, f"hls-{name}".replace("/", "-"), f"{web.url}/file/{name}.m3u8", seconds=40)
        return (state.ended_at - state.started_at) / 1e9

    took = await asyncio.gather(*(one(name) for name in lists))
    assert took[0] >= 6 and took[4] >= 6, took


@pytest.mark.core
async def test_hls_with_separate_audio(stack, web):
    hls(stack, "apart-v", "-hls_segment_type", "fmp4", "-an", coding=H264)
    hls(stack, "apart-a", "-hls_segment_type", "fmp4", "-vn", coding=AAC)
    (stack.dir / "apart.m3u8").write_text(
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",DEFAULT=YES,URI="apart-a/list.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x180,AUDIO="a"\napart-v/list.m3u8\n'
    )
    await plays(stack, "hls-apart", f"{web.url}/file/apart.m3u8")


@pytest.mark.core
async def test_live_hls(stack, web, ended):
    """Joined near its end, followed as it grows, ended when it ends."""
    encoder = await live_hls(stack.dir / "live", ended)
    async with Viewer(stack, "hls-live") as viewer:
        info = await pull(stack, "hls-live", f"{web.url}/file/live/list.m3u8")
        await viewer.wait_size(320, 180)
        await viewer.wait("six seconds of it", lambda v: len(v.frames) > 180)
        encoder.signal(2)
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 20)
    assert not state.error


# what else happens ------------------------------------------------------------------------------------------------------


async def test_a_download_that_stalls_only_pauses(stack, web):
    """Nothing is skipped: as many pictures as without, some seconds later."""
    make(stack, "long.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "3M", "-minrate", "3M",
         "-maxrate", "3M", "-bufsize", "1M", "-x264-params", "nal-hrd=cbr:force-cfr=1", *AAC, *FAST, seconds=6)
    info, state, _ = await plays(stack, "stalls", f"{web.url}/stall/long.mp4", seconds=40)
    took = (state.ended_at - state.started_at) / 1e9
    assert took > 6 + web.server.stall - 2, took


async def test_an_index_at_the_end_without_ranges(stack, web):
    """Only playable once all of it is here: it waits on the disk."""
    make(stack, "spooled.mp4", *BFRAMES, *AAC)
    await plays(stack, "spooled", f"{web.url}/plain/spooled.mp4")


async def test_an_untrusted_certificate(stack):
    key, certificate = stack.dir / "tls.key", stack.dir / "tls.pem"
    certify(certificate, key, "127.0.0.1", "subjectAltName=IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Web(stack.dir, tls=context)
    try:
        error = await fails(stack, "tls", f"{server.url}/file/fast.mp4")
        assert "gives nothing that can be pulled (this server's log says why)" in error, error
        assert "certificate" in stack.ingress.wait_log("TLS with")
    finally:
        server.close()


async def test_ten_pulls_at_once(stack, web, reports):
    make(stack, "fast.mp4", *BFRAMES, *AAC, *FAST)
    infos = await asyncio.gather(*(pull(stack, f"ten-{i}", f"{web.url}/file/fast.mp4") for i in range(10)))
    for info in infos:
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 60)
        assert not state.error and state.resource_id == info.state.resource_id
        assert [r.status for r in reports.of(info.ingress_id) if r.status in TERMINAL] == ["COMPLETE"]
    assert len({info.state.resource_id for info in infos}) == 10


async def test_deleting_a_running_pull(stack, web, reports):
    make(stack, "minute.mp4", *H264, *AAC, *FAST, seconds=60)
    info = await pull(stack, "deleted-url", f"{web.url}/file/minute.mp4")
    await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    await stack.delete(info.ingress_id)
    said = len(reports.of(info.ingress_id))
    await stack.wait_participant("deleted-url", "deleted-url-pub", here=False)
    await asyncio.sleep(1)  # a late report is what must not come
    assert len(reports.of(info.ingress_id)) == said
    assert await stack.info(info.ingress_id) is None


async def test_deleting_a_pull_that_waits_for_its_server(stack, web):
    """Nothing of it is left, however long that server is silent."""
    web.server.stall = 30
    children = lambda: len(descendants(stack.ingress.pid)) - 1
    info = await pull(stack, "deleted-early", f"{web.url}/silent/x.mp4")
    await asyncio.to_thread(wait_for, "the request", 10, lambda: any(path == "/silent/x.mp4" for path, _ in web.requests))
    assert children() > 1, "one pulls, beside the one that waits for work"
    await stack.delete(info.ingress_id)
    await asyncio.to_thread(wait_for, "the end of what pulled", 5, lambda: children() <= 1)
    web.server.stall = 3.0


async def test_a_killed_child_resumes_where_it_was(stack, web):
    """Whichever of the two it is, that pulls or that decodes: both are killed here."""
    make(stack, "twelve.mp4", *BFRAMES, *AAC, *FAST, seconds=12)
    async with Viewer(stack, "killed-url") as viewer:
        info = await pull(stack, "killed-url", f"{web.url}/file/twelve.mp4")
        await viewer.wait("seven seconds of it", lambda v: len(v.frames) > 200)
        for pid in descendants(stack.ingress.pid)[1:]:
            if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        seen = len(viewer.frames)
        await viewer.wait("picture after it", lambda v: len(v.frames) > seen + 60)
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
    # From its start again it would be 18 s and more.
    assert (state.ended_at - state.started_at) / 1e9 < 17


async def test_updating_is_refused_and_changes_nothing(stack, web):
    """livekit-server updates only ingresses that can be used again."""
    make(stack, "minute.mp4", *H264, *AAC, *FAST, seconds=60)
    info = await pull(stack, "updated-url", f"{web.url}/file/minute.mp4")
    await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    async with stack.api() as lk:
        with pytest.raises(api.TwirpError):
            await lk.ingress.update_ingress(pb.UpdateIngressRequest(ingress_id=info.ingress_id, name="other"))
        assert (await stack.info(info.ingress_id)).state.status == pb.IngressState.ENDPOINT_PUBLISHING
        await lk.ingress.delete_ingress(pb.DeleteIngressRequest(ingress_id=info.ingress_id))


@pytest.mark.parametrize("url", ["https://alias.invalid/none", "https://alias.invalid/"])
async def test_an_unknown_alias(stack, url):
    """Said at once to who asks."""
    with pytest.raises(api.TwirpError) as caught:
        await pull(stack, "no-alias", url)
    assert "url_alias" in str(caught.value)


@pytest.mark.core
async def test_rotated_phone_video_is_upright(stack, web):
    make(stack, "lying.mp4", *BFRAMES, *AAC, *FAST)
    data = bytearray((stack.dir / "lying.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44  # of the first track, the picture's (ISO 14496-12 §8.3.2)
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 180 << 16, 0, 1 << 30)
    (stack.dir / "turned.mp4").write_bytes(data)
    await plays(stack, "turned", f"{web.url}/file/turned.mp4", size=(180, 320))


# splice points ----------------------------------------------------------------------------------------------------------


def crc(data):
    """CRC-32/MPEG-2."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return struct.pack(">I", value)


def ts_packet(pid, section, count):
    return (bytes([0x47, 0x40 | pid >> 8, pid & 255, 0x10 | count & 15, 0]) + section).ljust(188, b"\xff")


def with_splices(data, pid=0x1F0):
    """The same MPEG-TS with an event 4711 that is out of the network from a third of it on, and back from two thirds."""
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    out = []
    for i, packet in enumerate(packets):
        at = (packet[1] & 0x1F) << 8 | packet[2]
        if at == 0x1000 and packet[1] & 0x40:  # ffmpeg's programme map
            section = packet[5 : 5 + 3 + ((packet[6] & 15) << 8 | packet[7])]
            section = bytearray(section[:-4] + bytes([0x86, 0xE0 | pid >> 8, pid & 255, 0xF0, 0]))
            section[1:3] = struct.pack(">H", 0xB000 | len(section) + 4 - 3)
            packet = ts_packet(0x1000, bytes(section) + crc(section), packet[3])
        out.append(packet)
        if i in (len(packets) // 3, 2 * len(packets) // 3):
            outside = i == len(packets) // 3
            command = struct.pack(">IB", 4711, 0x7F) + bytes([0xDF if outside else 0x5F, 0, 1, 0, 0])
            body = bytes([0xFC, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, len(command), 5]) + command + b"\0\0"
            body = bytearray(body)
            body[2] = len(body) + 4 - 3
            out.append(ts_packet(pid, bytes(body) + crc(body), 0 if outside else 1))
    return b"".join(out)


async def test_splice_points_become_attributes(stack, web):
    make(stack, "plain.ts", *H264, *AAC, seconds=9)
    (stack.dir / "splices.ts").write_bytes(with_splices((stack.dir / "plain.ts").read_bytes()))
    seen = []
    async with Viewer(stack, "splices") as viewer:
        key = "ingress.outOfNetwork.eventID"
        viewer.room.on("participant_attributes_changed", lambda changed, _: seen.append(changed[key]) if key in changed else None)
        info = await pull(stack, "splices", f"{web.url}/file/splices.ts")
        await viewer.wait_size(320, 180)
        await stack.wait_state(info.ingress_id, "COMPLETE", 30)
    assert seen == ["4711", ""], seen
