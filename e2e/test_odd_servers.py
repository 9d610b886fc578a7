"""What servers and files are like that no standard foresees, from public reports: each plays to its end, seen and heard."""

import asyncio
import gzip
import subprocess

import pytest

from rig import Viewer, numbered_clip
from rig.media import QUIET
from rig.pulls import AAC, FAST, H264, fails, make, pull, turn
from rig.together import at_once
from rig.web import Handler

SECONDS = 6


async def seen_to_its_end(stack, room, url, video=True, audio=True):
    """Pulls `url`: pictures are seen where there are some, the tone is heard where there is one, and it ends as a file does."""
    async with Viewer(stack, room) as viewer:
        async with turn():
            info = await pull(stack, room, url)
        if video:
            await viewer.wait_size(320, 180)
        if audio:
            await viewer.wait_tone(330)
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
        assert state.error == ""
        if video:
            assert len(viewer.frames) > SECONDS * 30 / 2, len(viewer.frames)


# Audio and video as they leave an encoder, without a container. The server takes ranges, so that a parser may read by itself.
BARE = {
    "flac": (["-c:a", "flac"], False),
    "mp3": (["-c:a", "libmp3lame", "-id3v2_version", "0", "-write_xing", "0"], False),
    "aac": (["-c:a", "aac", "-f", "adts"], False),
    "ac3": (["-c:a", "ac3"], False),
    "mp2": (["-c:a", "mp2"], False),
    "h264": ([*H264, "-f", "h264"], True),
}


@pytest.mark.parametrize("kinds", [("flac", "mp3", "aac"), ("ac3", "mp2", "h264")], ids=" ".join)
async def test_files_without_a_container(stack, web, kinds):
    async def one(kind):
        coding, video = BARE[kind]
        make(stack, f"bare.{kind}", *coding, video=video, audio=not video, seconds=SECONDS)
        await seen_to_its_end(stack, f"bare-{kind}", f"{web.url}/file/bare.{kind}", video=video, audio=not video)

    await at_once(*map(one, kinds))


async def test_servers_that_refuse_ranges(stack, web, monkeypatch):
    make(stack, "bare.mp3", *BARE["mp3"][0], video=False, seconds=SECONDS)

    def refuses(handler, path):
        """Whoever asks for a range is refused, with the status that the path says."""
        status, _, name = path.partition("/")
        handler.answer(int(status)) if handler.headers.get("Range") else handler.send(name, ranges=False)

    monkeypatch.setattr(Handler, "how_refuses", refuses, raising=False)
    all_of_them = (400, 403, 406, 416, 501)
    await at_once(*(seen_to_its_end(stack, f"refuses-{s}", f"{web.url}/refuses/{s}/bare.mp3", video=False) for s in all_of_them))


def hls(stack, name, *options):
    """A presentation of one-second segments in `name`/; gives the text of its playlist."""
    directory = stack.dir / name
    directory.mkdir(exist_ok=True)
    make(stack, f"{name}/list.m3u8", *H264, *AAC, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", *options, seconds=SECONDS)
    return (directory / "list.m3u8").read_text()


FMP4 = ["-hls_segment_type", "fmp4"]


async def test_compressed_playlists(stack, web, monkeypatch):
    hls(stack, "packed")

    def packed(handler, name):
        """Compressed, whatever the client takes."""
        data = handler.read(name)
        if name.endswith(".m3u8"):
            data = gzip.compress(data)
            handler.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(data))})
        else:
            handler.head(200, {"Content-Length": str(len(data))})
        handler.wfile.write(data)

    monkeypatch.setattr(Handler, "how_packed", packed, raising=False)
    await seen_to_its_end(stack, "packed", f"{web.url}/packed/packed/list.m3u8")


async def test_encrypted_initialisation_sections(stack, web):
    text = hls(stack, "secret", *FMP4)
    key, iv = bytes(range(16)), bytes(range(16, 32))
    directory = stack.dir / "secret"
    (directory / "key").write_bytes(key)
    for path in [directory / "init.mp4", *directory.glob("*.m4s")]:
        encrypt = ["openssl", "enc", "-aes-128-cbc", "-K", key.hex(), "-iv", iv.hex()]
        path.write_bytes(subprocess.run(encrypt, input=path.read_bytes(), capture_output=True, check=True).stdout)
    said = f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{iv.hex()}\n'
    (directory / "list.m3u8").write_text(text.replace("#EXT-X-MAP", said + "#EXT-X-MAP", 1))
    await seen_to_its_end(stack, "secret", f"{web.url}/file/secret/list.m3u8")


async def test_segments_that_are_missing(stack, web):
    """Told so by the playlist, they are not asked for; what follows plays."""
    lines = hls(stack, "gaps").splitlines()
    third = [i for i, line in enumerate(lines) if line.startswith("#EXTINF")][2]
    lines.insert(third, "#EXT-X-GAP")
    gone = lines[third + 2]
    (stack.dir / "gaps" / gone).unlink()
    (stack.dir / "gaps" / "list.m3u8").write_text("\n".join(lines) + "\n")
    await seen_to_its_end(stack, "gaps", f"{web.url}/file/gaps/list.m3u8")
    assert not [path for path, _ in web.requests if path.endswith(f"gaps/{gone}")], gone


async def test_a_redundant_variant_stands_in(stack, web):
    hls(stack, "variant")
    variant = "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x180\n"
    (stack.dir / "redundant.m3u8").write_text(f"#EXTM3U\n{variant}nowhere/list.m3u8\n{variant}variant/list.m3u8\n")
    await seen_to_its_end(stack, "redundant", f"{web.url}/file/redundant.m3u8")


async def test_addresses_of_playlists_that_expire(stack, web, ended, monkeypatch):
    """The playlist's own address leads to another each time, and each is good for two answers only."""
    directory = stack.dir / "expiring"
    directory.mkdir()
    command = [
        *QUIET, "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-re", "-f", "lavfi", "-i", "sine=frequency=330,volume=4",
        *H264, *AAC, "-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments", str(directory / "list.m3u8"),
    ]
    ended(stack.program("expiring", command))
    left = {}

    def token(handler, name):
        left[str(len(left))] = 2
        handler.answer(302, {"Location": f"/expires/{name}?token={len(left) - 1}"})

    def expires(handler, name):
        """A playlist for those with a token that is good; segments for all."""
        if name.endswith(".m3u8"):
            given = handler.path.partition("token=")[2]
            if not left.get(given):
                return handler.answer(403)
            left[given] -= 1
        handler.send(name, ranges=False)

    monkeypatch.setattr(Handler, "how_token", token, raising=False)
    monkeypatch.setattr(Handler, "how_expires", expires, raising=False)
    while not (directory / "list.m3u8").exists() or (directory / "list.m3u8").read_text().count("#EXTINF") < 3:
        await asyncio.sleep(0.1)
    async with Viewer(stack, "expiring") as viewer:
        async with turn():
            info = await pull(stack, "expiring", f"{web.url}/token/expiring/list.m3u8")
        await viewer.wait_size(320, 180)
        seen = len(viewer.frames)
        await viewer.wait("ten seconds of pictures", lambda v: len(v.frames) > seen + 300, 20)
        assert (await stack.info(info.ingress_id)).state.error == ""
    assert len(left) > 5


# An MPEG-TS whose programme changes in the middle ------------------------------------------------------------------------------


def transport_stream(stack, name, streams, seconds=SECONDS, video_pid=0x100, audio_pid=0x101, version=0, begin=0):
    """An MPEG-TS with these streams ("video", "audio") on these PIDs, whose timestamps begin there."""
    path = stack.dir / f"{name}.ts"
    maps = [f"-streamid {i}:{pid}" for i, pid in enumerate([video_pid] * ("video" in streams) + [audio_pid] * ("audio" in streams))]
    flags = ["-f", "mpegts", "-mpegts_flags", "resend_headers", "-tables_version", str(version), "-pat_period", "0.1", "-output_ts_offset", str(begin)]
    make(stack, path.name, *H264, *AAC, *" ".join(maps).split(), *flags, video="video" in streams, audio="audio" in streams, seconds=seconds)
    return path.read_bytes()


PROGRAMMES = {
    "audio comes later": (dict(streams=["video"]), dict(streams=["video", "audio"], version=1)),
    "new PIDs": (dict(streams=["video", "audio"]), dict(streams=["video", "audio"], video_pid=0x200, audio_pid=0x201, version=1)),
    "new PIDs, same version": (dict(streams=["video", "audio"]), dict(streams=["video", "audio"], video_pid=0x200, audio_pid=0x201)),
}


@pytest.mark.parametrize("change", PROGRAMMES)
async def test_programmes_that_change(stack, web, change):
    """From a server with ranges and from one without: both halves are seen, and the tone is heard in the second."""
    name = change.replace(" ", "-").replace(",", "")
    halves = [transport_stream(stack, f"{name}-{i}", begin=i * SECONDS, **half) for i, half in enumerate(PROGRAMMES[change])]
    (stack.dir / f"{name}.ts").write_bytes(b"".join(halves))
    await at_once(*(both_halves(stack, web, name, how) for how in ("file", "plain")))


async def both_halves(stack, web, name, how):
    room = f"{name}-{how}"
    async with Viewer(stack, room) as viewer:
        async with turn():
            info = await pull(stack, room, f"{web.url}/{how}/{name}.ts")
        await viewer.wait_size(320, 180)
        await viewer.wait("pictures of both halves", lambda v: len(v.frames) > SECONDS * 30 * 1.5, 30)
        await viewer.wait_tone(330)
        state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
        assert state.error == ""


# Files whose tracks are not alike ----------------------------------------------------------------------------------------------


# The first picture that is seen. On a quiet machine it is one of the first ten; it is the 39th while others test beside, as a viewer is
# subscribed late. 74 were lost where both tracks waited for each other.
APART_LOST = 50


def apart(stack, name, video_at, sound_at):
    """Numbered pictures that begin at one time, and sound at another: a second and a half of 880 Hz, then 330."""
    pictures = numbered_clip(stack.dir / f"{name}-pictures.mp4", SECONDS, sound=(), muxer=("-f", "mp4"))
    sound = f"aevalsrc='0.5*sin(2*PI*if(lt(t,1.5),880,330)*t)':s=48000:d={SECONDS}"
    inputs = ["-itsoffset", str(video_at), "-i", str(pictures), "-itsoffset", str(sound_at), "-f", "lavfi", "-i", sound]
    command = [*QUIET, "-y", *inputs, "-map", "0:v", "-map", "1:a", "-c:v", "copy", *AAC, str(stack.dir / f"{name}.mkv")]
    subprocess.run(command, check=True, timeout=60)
    return f"{name}.mkv"


async def test_files_whose_tracks_begin_apart(stack, web):
    """The earlier one is seen, or heard, from its beginning."""

    async def sound_first(how):
        room = f"sound-first-{how}"
        file = apart(stack, room, 2.5, 0)
        async with Viewer(stack, room) as viewer:
            async with turn():
                info = await pull(stack, room, f"{web.url}/{how}/{file}")
            await viewer.wait_tone(880, 10)
            await viewer.wait_numbers(100)
            assert min(viewer.numbers()) < APART_LOST, min(viewer.numbers())
            assert (await stack.wait_state(info.ingress_id, "COMPLETE", 30)).error == ""

    async def pictures_first(how):
        room = f"pictures-first-{how}"
        file = apart(stack, room, 0, 2.5)
        async with Viewer(stack, room) as viewer:
            async with turn():
                info = await pull(stack, room, f"{web.url}/{how}/{file}")
            await viewer.wait_tone(880, 15)
            assert min(viewer.numbers()) < APART_LOST, min(viewer.numbers())
            assert (await stack.wait_state(info.ingress_id, "COMPLETE", 30)).error == ""

    await at_once(sound_first("file"), pictures_first("file"), sound_first("plain"), pictures_first("plain"))


@pytest.mark.words("the file is not complete")
async def test_a_file_that_is_cut_off(stack, web):
    """It ends before the time that it says: the last state says so."""
    make(stack, "whole.mp4", *H264, *AAC, *FAST, seconds=20)
    whole = (stack.dir / "whole.mp4").read_bytes()
    (stack.dir / "cut.mp4").write_bytes(whole[: len(whole) // 3])

    async def one(how):
        async with Viewer(stack, f"cut-{how}") as viewer:
            async with turn():
                info = await pull(stack, f"cut-{how}", f"{web.url}/{how}/cut.mp4")
            await viewer.wait_size(320, 180)
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
            assert "the file is not complete" in state.error, state.error

    await at_once(one("file"), one("plain"))


# An MPEG-TS from a cheap multiplexer -------------------------------------------------------------------------------------------


def packets(stream, change):
    """The stream with each of its packets, as a bytearray, as `change` leaves it."""
    out = bytearray(stream)
    for at in range(0, len(out), 188):
        packet = out[at : at + 188]
        change(packet)
        out[at : at + 188] = packet
    return bytes(out)


def pid(packet):
    return (packet[1] & 0x1F) << 8 | packet[2]


def counts_nothing(packet):
    packet[3] &= 0xF0


def no_clock(packet):
    if packet[3] & 0x20 and packet[4]:
        packet[5] &= ~0x10


def sound_hours_apart(packet):
    """The times of the sound are ten hours ahead of those of the pictures."""
    start = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    if pid(packet) != 0x101 or not packet[1] & 0x40 or start[:3] != b"\0\0\1":
        return
    at = len(packet) - len(start) + 9
    a, b, c, d, e = packet[at : at + 5]
    time = (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
    time = time + 36_000 * 90_000 & (1 << 33) - 1
    packet[at : at + 5] = bytes([a & 0xF0 | time >> 29 & 0xE | 1, time >> 22 & 0xFF, time >> 14 & 0xFE | 1, time >> 7 & 0xFF, time << 1 & 0xFE | 1])


def scrambled(packet):
    if pid(packet) in (0x100, 0x101):
        packet[3] |= 0x80


MULTIPLEXERS = {"counts nothing": counts_nothing, "no clock": no_clock, "sound hours apart": sound_hours_apart}


async def test_cheap_multiplexers(stack, web):
    """From a server with ranges and from one without."""
    plain = transport_stream(stack, "plain", ["video", "audio"], seconds=10)

    async def one(name, how):
        room = f"{name.replace(' ', '-')}-{how}"
        (stack.dir / f"{room}.ts").write_bytes(packets(plain, MULTIPLEXERS[name]))
        async with Viewer(stack, room) as viewer:
            async with turn():
                info = await pull(stack, room, f"{web.url}/{how}/{room}.ts")
            await viewer.wait_size(320, 180)
            await viewer.wait_tone(330)
            await viewer.wait("pictures", lambda v: len(v.frames) > 7 * 30)
            assert (await stack.wait_state(info.ingress_id, "COMPLETE", 30)).error == ""

    await at_once(*(one(name, "file") for name in MULTIPLEXERS))
    await at_once(*(one(name, "plain") for name in ("no clock", "sound hours apart")))


async def test_of_several_programmes_one_with_pictures_is_played(stack, web):
    """The first is radio."""
    inputs = ["-f", "lavfi", "-i", "sine=frequency=660:duration=8,volume=4"]
    inputs += ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=8", "-f", "lavfi", "-i", "sine=frequency=330:duration=8,volume=4"]
    programmes = ["-program", "program_num=1:title=radio:st=0", "-program", "program_num=2:title=pictures:st=1:st=2"]
    maps = ["-map", "0:a", "-map", "1:v", "-map", "2:a"]
    subprocess.run([*QUIET, "-y", *inputs, *maps, *H264, *AAC, *programmes, "-f", "mpegts", str(stack.dir / "several.ts")], check=True, timeout=60)
    await seen_to_its_end(stack, "several", f"{web.url}/file/several.ts")


async def test_scrambled_streams_are_named(stack, web):
    stream = packets(transport_stream(stack, "plain", ["video", "audio"], seconds=10), scrambled)
    (stack.dir / "scrambled.ts").write_bytes(stream)
    assert "scrambled" in await fails(stack, "scrambled", f"{web.url}/file/scrambled.ts")
