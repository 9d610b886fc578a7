"""An RTSP camera by hand, for what no server of a library would do: it sends a clip over and over, H.264 and AAC in RTP over the connection
itself (RFC 2326 §10.12), and each of its habits can be changed."""

import base64
import itertools
import random
import socket
import struct
import threading
import time

from . import flv

MTU = 1300


class Stream:
    """One RTP stream on a channel."""

    def __init__(self, channel, payload_type, rate):
        self.channel, self.payload_type, self.rate = channel, payload_type, rate
        self.number, self.ssrc, self.base = random.randrange(1 << 16), random.randrange(1 << 32), random.randrange(1 << 31)

    def packet(self, payload, at, marked):
        """Interleaved; `at` in seconds."""
        self.number = self.number + 1 & 0xFFFF
        stamp = self.base + round(at * self.rate) & 0xFFFFFFFF
        head = struct.pack(">BBHII", 0x80, marked << 7 | self.payload_type, self.number, stamp, self.ssrc)
        packet = head + payload
        return struct.pack(">BBH", ord("$"), self.channel, len(packet)) + packet

    def bye(self):
        packet = struct.pack(">BBHI", 0x81, 203, 1, self.ssrc)
        return struct.pack(">BBH", ord("$"), self.channel + 1, len(packet)) + packet


def fragments(unit):
    """Payloads of one NAL unit: itself, or FU-As (RFC 6184 §5.8)."""
    if len(unit) <= MTU:
        return [unit]
    indicator, header, rest = unit[0] & 0xE0 | 28, unit[0] & 0x1F, unit[1:]
    pieces = [rest[i : i + MTU] for i in range(0, len(rest), MTU)]
    ends = [0x80] + [0] * (len(pieces) - 2) + [0x40]
    return [bytes([indicator, end | header]) + piece for end, piece in zip(ends, pieces)]


class Camera:
    """Serves `film` (tags of an FLV) at rtsp://127.0.0.1:`port`/live inside a `with`.

    `habits` may hold: `sdp`, a function of the description; `heads`, a function of the lines of an answer; `marks="each"`, a mark on the
    last packet of each NAL unit; `joined`, the units of a key picture as one behind start codes; `garbage`, bytes after every so many
    packets; `timeout`, seconds after which it hangs up on a client that is silent; `bye`, seconds after which it says goodbye on both
    streams and sends no more on this connection; `silent`, no packet of the audio; `twice`, pictures on a second stream, too."""

    def __init__(self, port, film, **habits):
        self.film, self.habits = film, habits
        self.requests, self.connections = [], 0  # (method, seconds) as they come
        [config] = [t for t in film if flv.is_config(t) and t.kind == flv.VIDEO]
        [audio] = [t for t in film if flv.is_config(t) and t.kind == flv.AUDIO]
        self.sets, self.audio = flv.parameter_sets(config), audio.body[2:]
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port, self.closed = port, False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closed = True
        self.listener.close()

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=Talk(self, client).run, daemon=True).start()

    def description(self):
        sps, pps = self.sets
        sets = ",".join(base64.b64encode(s).decode() for s in self.sets)
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*", "a=range:npt=now-"]
        lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
        lines += [f"a=fmtp:96 packetization-mode=1;profile-level-id={sps[1:4].hex()};sprop-parameter-sets={sets}", "a=control:video"]
        lines += ["m=audio 0 RTP/AVP 97", "a=rtpmap:97 mpeg4-generic/48000/2"]
        fixed = "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3"
        lines += [f"a=fmtp:97 {fixed};config={self.audio.hex()}", "a=control:audio"]
        if "twice" in self.habits:
            lines += ["m=video 0 RTP/AVP 98", "a=rtpmap:98 H264/90000", "a=fmtp:98 packetization-mode=1", "a=control:second"]
        return self.habits.get("sdp", lambda text: text)("\r\n".join(lines) + "\r\n")


class Talk:
    """One connection to a camera."""

    def __init__(self, camera, client):
        self.camera, self.habits, self.client = camera, camera.habits, client
        self.write, self.heard, self.channels, self.playing = threading.Lock(), time.monotonic(), {}, False

    def run(self):
        threading.Thread(target=self._hang_up, daemon=True).start()
        try:
            self._serve(self.client.makefile("rb"))
        except OSError:
            pass
        finally:
            self.playing = False
            self.client.close()

    def _hang_up(self):
        """Ends the connection of a client that says nothing for the session's time-out."""
        limit = self.habits.get("timeout")
        while limit and not self.camera.closed:
            time.sleep(0.2)
            if time.monotonic() - self.heard > limit:
                self.client.shutdown(socket.SHUT_RDWR)
                return

    def _serve(self, file):
        while first := file.read(1):
            if first == b"$":
                file.read(struct.unpack(">xH", file.read(3))[0])
                continue
            line = first + file.readline()
            method = line.split()[0].decode() if line.split() else ""
            heads = {}
            while (head := file.readline().strip()) != b"":
                name, _, value = head.decode().partition(":")
                heads[name.lower()] = value.strip()
            if not method:
                continue
            self.heard = time.monotonic()
            self.camera.requests.append((method, self.heard))
            self._answer(method, line.split()[1].decode(), heads)
            if method == "TEARDOWN":
                return

    def _answer(self, method, uri, heads):
        lines, body = ["RTSP/1.0 200 OK", f"CSeq: {heads.get('cseq', '0')}"], b""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
        elif method == "DESCRIBE":
            body = self.camera.description().encode()
            lines += [f"Content-Base: {uri.rstrip('/')}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            channel = len(self.channels) * 2
            self.channels[uri.rstrip("/").rsplit("/", 1)[-1]] = channel
            lines.append(f"Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}")
        if method in ("SETUP", "PLAY", "GET_PARAMETER"):
            lines.append(f"Session: 4711;timeout={self.habits.get('timeout', 60)}")
        lines = self.habits.get("heads", lambda lines: lines)(lines)
        self._send("\r\n".join([*lines, "", ""]).encode() + body)
        if method == "PLAY" and not self.playing:
            self.playing = True
            threading.Thread(target=self._play, daemon=True).start()

    def _send(self, data):
        with self.write:
            self.client.sendall(data)

    def _play(self):
        video = [Stream(self.channels[name], pt, 90_000) for name, pt in (("video", 96), ("second", 98)) if name in self.channels]
        audio = Stream(self.channels["audio"], 97, 48_000) if "audio" in self.channels else None
        tags = [t for t in self.camera.film if not flv.is_config(t) and t.kind in (flv.AUDIO, flv.VIDEO)]
        length, start, sent, bye = tags[-1].time + 33, time.monotonic(), 0, self.habits.get("bye")
        try:
            for turn in itertools.count():
                for tag in tags:
                    at = (turn * length + tag.time) / 1000
                    time.sleep(max(0.0, start + at - time.monotonic()))
                    if bye and at > bye:
                        return self._send(b"".join(s.bye() for s in [*video, *filter(None, [audio])]))
                    if not self.playing:
                        return None
                    for packet in self._packets(tag, at, video, audio):
                        self._send(packet)
                        sent += 1
                        if (every := self.habits.get("garbage")) and sent % every == 0:
                            self._send(random.Random(sent).randbytes(40))
        except OSError:
            return None

    def _packets(self, tag, at, video, audio):
        if tag.kind == flv.AUDIO:
            if audio and "silent" not in self.habits:
                unit = tag.body[2:]
                yield audio.packet(struct.pack(">HH", 16, len(unit) << 3) + unit, at, True)
            return
        found = flv.units(tag)
        if flv.is_key(tag):
            found = [*self.camera.sets, *(u for u in found if u[0] & 0x1F not in (7, 8))]
            if "joined" in self.habits:
                found = [b"\0\0\0\1".join(found)]
        for stream in video:
            for i, unit in enumerate(found):
                payloads = fragments(unit)
                ends = self.habits.get("marks") == "each" or i == len(found) - 1
                for j, payload in enumerate(payloads):
                    yield stream.packet(payload, at, ends and j == len(payloads) - 1)
