"""HLS as its servers really are: odd answers, odd playlists, segments and variants that go missing, live edges that lag. What browsers,
FFmpeg and hls.js play is seen and heard here, too."""

import asyncio
import gzip
import hashlib
import re
import subprocess
import time

import pytest

from rig import Viewer
from rig.pulls import AAC, H264, fails, make, plays, pull, turn
from rig.together import at_once
from rig.web import Handler

SECONDS = 6
SIZE, RATE = (160, 90), 15  # small: many are played at the same time
SEGMENTS = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]


def hls(stack, name, *options, seconds=SECONDS, coding=(*H264, *AAC)):
    """A presentation of one-second segments in `name`/; gives the text of its playlist."""
    (stack.dir / name).mkdir(exist_ok=True)
    make(stack, f"{name}/list.m3u8", *coding, "-g", str(RATE), *SEGMENTS, *options, seconds=seconds, size=f"{SIZE[0]}x{SIZE[1]}", rate=RATE)
    return (stack.dir / name / "list.m3u8").read_text()


def write(stack, name, text):
    (stack.dir / name).write_text(text)


def how(monkeypatch, name):
    """Adds a way to serve files: what it decorates is called with the handler and the name of the file."""

    def add(action):
        monkeypatch.setattr(Handler, f"how_{name}", action, raising=False)

    return add


async def whole(stack, room, url):
    """Seen and heard, and nothing is skipped: it takes as long as it is."""
    _, state, _ = await plays(stack, room, url, tone=330, size=SIZE, seconds=40)
    took = (state.ended_at - state.started_at) / 1e9
    assert took > SECONDS - 0.7, (room, took)


# Servers ---------------------------------------------------------------------------------------------------------------------------


def odd_servers(stack, web, monkeypatch):
    """What is served how; by name, the path of a presentation."""
    times = {}

    def count(key):
        times[key] = times.get(key, 0) + 1
        return times[key]

    @how(monkeypatch, "slowlist")
    def _(h, name):
        """A playlist in chunks, with a pause after its head."""
        if not name.endswith(".m3u8"):
            return h.send(name)
        data = h.read(name)
        cut = data.index(b"#EXTINF")
        h.head(200, {"Transfer-Encoding": "chunked"})
        for i, part in enumerate((data[:cut], data[cut:])):
            time.sleep(1.5 * i)
            h.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
            h.wfile.flush()
        h.wfile.write(b"0\r\n\r\n")

    @how(monkeypatch, "tail")
    def _(h, name):
        """More than the Content-Length says, on a connection that stays."""
        data = h.read(name)
        h.head(200, {"Content-Length": str(len(data))})
        h.wfile.write(data + b"\r\n\r\nmore than it said")

    @how(monkeypatch, "packed")
    def _(h, name):
        """Compressed unasked; segments break off half way the first time."""
        data = gzip.compress(h.read(name), 1)
        h.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(data))})
        if name.endswith(".ts") and count(("packed", name)) == 1:
            h.wfile.write(data[: len(data) // 2])
            h.wfile.flush()
            h.hang_up()
        h.wfile.write(data)

    @how(monkeypatch, "heads")
    def _(h, name):
        """One kind of odd head after the other, for all files."""
        data = h.read(name)
        length = b"Content-Length: %d\r\n" % len(data)
        odd = [
            b"HTTP/1.1 200 OK\r\nCache Control: no-cache\r\n" + length,
            b"HTTP/1.1 200 OK\r\nServer : cam\r\n" + length,
            b"HTTP/1.0 200 OK\r\nContent-Length: -1\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: aws-chunked\r\n" + length,
            b"HTTP/1.1 200\r\nX-Folded: a\r\n b\r\n" + length,
        ][count("heads") % 5]
        h.wfile.write(odd + b"Connection: close\r\n\r\n" + data)
        h.close_connection = True

    @how(monkeypatch, "cookie")
    def _(h, name):
        """The playlist sets a cookie, on the way to itself, and segments are for those who have it."""
        given = h.headers.get("Cookie") or ""
        if "hdntl=abc" not in given:
            if name.endswith(".m3u8"):
                return h.answer(302, {"Location": h.path, "Set-Cookie": "hdntl=abc; path=/; HttpOnly"})
            return h.answer(403)
        h.send(name)

    @how(monkeypatch, "unsaid")
    def _(h, name):
        """Ranges of which the answer does not say which they are; every other breaks off."""
        asked = re.match(r"bytes=(\d+)-(\d*)$", h.headers.get("Range", ""))
        if not asked or name.endswith(".m3u8"):
            return h.send(name)
        data = h.read(name)[int(asked[1]) : int(asked[2]) + 1 if asked[2] else None]
        h.head(206, {"Content-Length": str(len(data))})
        if count("unsaid") % 2:
            h.wfile.write(data[: len(data) // 2])
            h.hang_up()
        h.wfile.write(data)

    @how(monkeypatch, "digest")
    def _(h, name):
        """Wants the user "viewer" with the password "pa:ss" by Digest (RFC 7616), as cameras do."""
        given = dict(re.findall(r'(\w+)="?([^",]*)', h.headers.get("Authorization", "").removeprefix("Digest ")))
        hashed = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
        secret, request = hashed("viewer:camera:pa:ss"), hashed(f"GET:{given.get('uri')}")
        right = hashed(f"{secret}:n0nce:{given.get('nc')}:{given.get('cnonce')}:auth:{request}")
        if given.get("response") != right or given.get("uri") != h.path:
            return h.answer(401, {"WWW-Authenticate": 'Digest realm="camera", nonce="n0nce", qop="auth", algorithm=MD5'})
        h.send(name)

    @how(monkeypatch, "away")
    def _(h, name):
        """Overloaded for three seconds at the fourth segment, and an error page in place of the third."""
        if name.endswith("3.ts"):
            begin = times.setdefault("away", time.monotonic())
            if time.monotonic() - begin < 3:
                return h.answer(503)
        if name.endswith("2.ts") and count("page") == 1:
            page = b"<html><body>Bad gateway</body></html>"
            h.head(200, {"Content-Length": str(len(page))})
            return h.wfile.write(page)
        h.send(name)

    login = web.url.replace("//", "//viewer:pa%3Ass@")
    same = {name: f"{web.url}/{name}/plain/list.m3u8" for name in ("slowlist", "tail", "packed", "heads", "cookie", "away")}
    return same | {
        "unsaid": f"{web.url}/unsaid/parts/list.m3u8",
        "digest": f"{login}/digest/plain/list.m3u8",
        "encrypted": f"{web.url}/plain/parts/encrypted.m3u8",
        "absolute": f"{login}/login/plain/absolute.m3u8",
    }


def encrypted_parts(stack):
    """Segments in one file, each encrypted."""
    key, directory = bytes(range(16)), stack.dir / "plain"
    said = 'METHOD=AES-128,URI="key",IV=0x' + "00" * 16
    lines, data = ["#EXTM3U", "#EXT-X-VERSION:4", "#EXT-X-TARGETDURATION:1", f"#EXT-X-KEY:{said}"], b""
    encrypt = ["openssl", "enc", "-aes-128-cbc", "-K", key.hex(), "-iv", "00" * 16]
    for i in range(SECONDS):
        segment = (directory / f"list{i}.ts").read_bytes()
        part = subprocess.run(encrypt, input=segment, capture_output=True, check=True).stdout
        lines += ["#EXTINF:1.0,", f"#EXT-X-BYTERANGE:{len(part)}@{len(data)}", "encrypted.ts"]
        data += part
    (stack.dir / "parts/key").write_bytes(key)
    (stack.dir / "parts/encrypted.ts").write_bytes(data)
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


async def test_odd_servers_of_hls(stack, web, monkeypatch):
    text = hls(stack, "plain")
    hls(stack, "parts", "-hls_flags", "single_file")
    write(stack, "parts/encrypted.m3u8", encrypted_parts(stack))
    write(stack, "plain/absolute.m3u8", text.replace("\nlist", f"\n{web.url}/login/plain/list"))
    found = odd_servers(stack, web, monkeypatch)
    names = list(found)
    for group in (names[:5], names[5:]):
        await at_once(*(whole(stack, f"server-{name}", found[name]) for name in group))


# Playlists -------------------------------------------------------------------------------------------------------------------------


def odd_playlists(stack):
    """Writes playlists of the same six seconds; gives their names, and what part of the pictures has to come."""
    text = hls(stack, "odd")
    ended = "#EXT-X-ENDLIST\n"
    stream = "#EXT-X-STREAM-INF:BANDWIDTH=900,RESOLUTION=160x90"
    drm = '#EXT-X-KEY:METHOD=AES-128,KEYFORMAT="com.apple.streamingkeydelivery",KEYFORMATVERSIONS="1",URI="skd://x"\n'
    twice = text.replace("#EXTINF:1.000000,", "#EXTINF:1.0 tvg-id=x,", 1).replace("#EXTINF:1.000000,", "#EXTINF:4000,", 1)
    third = [i for i, line in enumerate(text.splitlines()) if line.endswith("list2.ts")][0]
    gone = text.splitlines()
    gone = [f"odd/{line}" if line.endswith(".ts") else line for line in gone]
    gone[third] = "odd/nowhere.ts"
    write(stack, "odd/vod.m3u8", text.replace(ended, "").replace("#EXTM3U\n", "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n"))
    write(stack, "odd/extinf.m3u8", twice)
    write(stack, "odd/define.m3u8", text.replace("#EXTM3U\n", '#EXTM3U\n#EXT-X-DEFINE:NAME="p",VALUE="list"\n').replace("\nlist", "\n{$p}"))
    write(stack, "odd/last.m3u8", text.replace("MEDIA-SEQUENCE:0", "MEDIA-SEQUENCE:18446744073709551615"))
    write(stack, "gone.m3u8", "\n".join(gone) + "\n")
    encrypted = (stack.dir / "parts/encrypted.m3u8").read_text()
    write(stack, "parts/keys.m3u8", encrypted.replace("#EXTINF", drm + "#EXTINF", 1))
    write(stack, "codecs.m3u8", f'#EXTM3U\n{stream.replace("900", "9999")},CODECS="vvc1.1.L51"\nnowhere/list.m3u8\n'
                                f'{stream},CODECS="avc1.4d401f,mp4a.40.2"\nodd/list.m3u8\n'
                                f"{stream}\nfile:///etc/passwd\n")
    # Without DEFAULT the first is meant, though the variant has better sound in its own segments.
    audio = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{0}",URI="{0}/list.m3u8"\n'
    write(stack, "languages.m3u8", f'#EXTM3U\n{audio.format("one")}{audio.format("two")}{stream},AUDIO="a"\nother/list.m3u8\n')
    write(stack, "silent.m3u8", f'#EXTM3U\n{audio.format("nowhere")}{stream},AUDIO="a"\nodd/list.m3u8\n')
    write(stack, "stations.m3u8", '#EXTM3U\n#EXTINF:-1 tvg-id="x",One\nhttp://127.0.0.1/1\n#EXTINF:-1,Two\nhttp://127.0.0.1/2\n')
    # The first dies half way, the second is whole.
    for i in range(4, SECONDS):
        (stack.dir / f"dies/list{i}.ts").unlink(missing_ok=True)
    write(stack, "dies.m3u8", f"#EXTM3U\n{stream}\ndies/list.m3u8\n{stream}\nodd/list.m3u8\n")
    write(stack, "mute.m3u8", f'#EXTM3U\n{audio.format("nowhere")}{stream},AUDIO="a"\npictures/list.m3u8\n')
    return ["odd/vod", "odd/extinf", "odd/define", "odd/last", "parts/keys", "codecs", "languages", "silent", "dies"]


def tone(stack, name, hertz, coding, video):
    """A presentation with another tone."""
    directory = stack.dir / name
    directory.mkdir(exist_ok=True)
    pictures = ["-f", "lavfi", "-i", f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate={RATE}:duration={SECONDS}"] if video else []
    sound = ["-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000:duration={SECONDS},volume=4"]
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *pictures, *sound, *coding, *SEGMENTS]
    subprocess.run([*command, "-shortest", str(directory / "list.m3u8")], check=True, timeout=60)


@pytest.mark.words("a segment of the stream is left out: File not found", "audio is left out: its playlist can't be opened (File not found")
async def test_odd_playlists(stack, web):
    hls(stack, "pictures", "-an", coding=H264)
    hls(stack, "plain")
    hls(stack, "parts", "-hls_flags", "single_file")
    write(stack, "parts/encrypted.m3u8", encrypted_parts(stack))
    tone(stack, "one", 330, ["-c:a", "aac", "-ac", "1"], False)
    tone(stack, "two", 660, ["-c:a", "aac", "-ac", "1"], False)
    tone(stack, "other", 880, [*H264, *AAC], True)
    hls(stack, "dies")
    names = odd_playlists(stack)

    async def one(name):
        await whole(stack, f"list-{name}".replace("/", "-"), f"{web.url}/file/{name}.m3u8")

    async def stations():
        words = await fails(stack, "list-stations", f"{web.url}/file/stations.m3u8")
        assert "pull one of those addresses" in words, words

    async def said(name, words, audio):
        """Played to its end, and what is missing is said."""
        async with Viewer(stack, f"list-{name}") as viewer:
            async with turn():
                info = await pull(stack, f"list-{name}", f"{web.url}/file/{name}.m3u8")
            await viewer.wait_size(*SIZE)
            state = await stack.wait_state(info.ingress_id, "COMPLETE", 30)
        assert words in state.error, state.error
        assert any(level > 300 for _, level in viewer.levels) == audio

    await at_once(*map(one, names[:5]), stations())
    await at_once(*map(one, names[5:]), said("gone", "a segment of the stream is left out", True), said("mute", "audio is left out", False))
    asked = [path for path, _ in web.requests]
    assert not [path for path in asked if path.startswith("/file/two/")], "the second language"


# Live ------------------------------------------------------------------------------------------------------------------------------


class Live:
    """Live playlists of one-second segments, each with a fault of its own: /live/KIND/list.m3u8."""

    WINDOW = 6

    def __init__(self, stack, monkeypatch):
        hls(stack, "film", seconds=40)
        self.begun, self.polls, self.asked, self.times = {}, {}, {}, {}

        @how(monkeypatch, "live")
        def _(h, name):
            kind, _, file = name.partition("/")
            (self.playlist if file.endswith(".m3u8") else self.segment)(h, kind, file)

    def age(self, kind):
        return time.monotonic() - self.begun.setdefault(kind, time.monotonic())

    def playlist(self, h, kind, _):
        polls = self.polls[kind] = self.polls.get(kind, 0) + 1
        age = self.age(kind.partition("-")[0])
        self.asked.setdefault(kind, []).append(("list", round(age, 1)))
        if kind == "redundant-a" and 4 < age < 12:
            return h.answer(404)
        last = int(age) + self.WINDOW - 1 - (4 if kind == "stale" and polls % 5 == 3 else 0)
        first = max(0, last + 1 - self.WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{first}"] if kind != "uncounted" else []
        for i in range(first, last + 1):
            nobody = kind == "faults" and i == 10
            lines += ["#EXTINF:1.0,", "http://nothing.invalid/x.ts" if nobody else f"list{i}.ts?t={polls if kind == 'token' else 0}"]
        text = ("\n".join(lines) + "\n").encode()
        h.head(200, {"Content-Length": str(len(text))})
        h.wfile.write(text)

    def segment(self, h, kind, file):
        number = int(re.search(r"list(\d+)", file)[1])
        time_ = self.times[kind, number] = self.times.get((kind, number), 0) + 1
        asked = self.asked.setdefault(kind, [])
        age = self.age(kind.partition("-")[0]) - (number + 1 - self.WINDOW)
        token = int(h.path.partition("t=")[2])
        if kind == "late" and age < 0.4:
            return asked.append((number, 404)) or h.answer(404)
        if kind == "token" and number % 3 == 0 and token < self.polls[kind] or kind == "token" and number == 8 and time_ == 1:
            return asked.append((number, 403)) or h.answer(403 if number % 3 == 0 else 503)
        if kind == "faults" and number == 8 and time_ == 1:
            h.head(200, {"Transfer-Encoding": "chunked"})
            h.wfile.write(b"zz\r\n")
            h.hang_up()
        asked.append((number, 200))
        h.path = "/film"
        h.send(f"film/{file}")

    def numbers(self, kind, status=200):
        return [n for n, s in self.asked[kind] if n != "list" and s == status]


async def followed(stack, web, live, kind, seconds=11, path=None, gap=2.0):
    """Pictures keep coming for so long, and nothing is wrong."""
    room = f"live-{kind}"
    async with Viewer(stack, room) as viewer:
        async with turn():
            info = await pull(stack, room, f"{web.url}/{path or f'live/{kind}/list.m3u8'}")
        await viewer.wait_size(*SIZE)
        begin = time.monotonic()
        await viewer.wait(f"{seconds} s of pictures", lambda v: time.monotonic() - begin > seconds, seconds + 5)
        state = (await stack.info(info.ingress_id)).state
        assert (state.error, state.Status.Name(state.status)) == ("", "ENDPOINT_PUBLISHING"), (kind, state, live.asked)
        assert viewer.longest_gap(begin) < gap, (kind, viewer.longest_gap(begin), live.asked)
        assert max(f.at for f in viewer.frames) > time.monotonic() - gap, (kind, live.asked)
        await stack.delete(info.ingress_id)


async def test_odd_live_servers(stack, web, monkeypatch):
    live = Live(stack, monkeypatch)
    stream = "#EXT-X-STREAM-INF:BANDWIDTH=900,RESOLUTION=160x90\n"
    write(stack, "two.m3u8", f"#EXTM3U\n{stream}/live/redundant-a/list.m3u8\n{stream}/live/redundant-b/list.m3u8\n")
    await at_once(
        *(followed(stack, web, live, kind, gap=2.5) for kind in ("stale", "late", "token", "uncounted")),
        # One of its segments is nowhere.
        followed(stack, web, live, "faults", gap=3.5),
        followed(stack, web, live, "redundant", 15, "file/two.m3u8", 4.0),
    )
    for kind in ("stale", "late", "token", "uncounted"):
        came = live.numbers(kind)
        assert came == list(range(came[0], came[-1] + 1)), (kind, live.asked[kind])
    came = live.numbers("faults")
    assert set(range(came[0], came[-1] + 1)) - set(came) == {10}, live.asked["faults"]
    a, b = live.asked["redundant-a"], live.asked["redundant-b"]
    assert live.numbers("redundant-b") and max(live.numbers("redundant-a")) > max(live.numbers("redundant-b")), (a, b)
