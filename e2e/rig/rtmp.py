"""An RTMP publisher by hand, for what ffmpeg hides: the words of a refusal, broken bytes, connections that go silent.

Only the client's half of RTMP 1.0 that leads to `publish`: handshake (§5.2, or with digests as Flash Player does), chunks
(§5.3), AMF0 commands (§7.2).
"""

import hashlib
import hmac
import os
import socket
import struct


# The keys of Flash Player's handshake, as every implementation has them: 30 and 36 letters, and 32 bytes that both share.
SHARED_KEY = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
PLAYER_KEY = b"Genuine Adobe Flash Player 001" + SHARED_KEY
SERVER_KEY = b"Genuine Adobe Flash Media Server 001" + SHARED_KEY


def sign(key, data):
    return hmac.new(key, bytes(data), hashlib.sha256).digest()


def digest_place(block, scheme):
    """Where the digest stands in C1 or S1: the four bytes at 8 or 772 say how far behind them, modulo 728."""
    base = (8, 772)[scheme]
    return base + 4 + sum(block[base : base + 4]) % 728


class Refused(Exception):
    """The server said no; `code` and `description` are those of its onStatus or _error."""

    def __init__(self, code, description):
        super().__init__(f"{code}: {description}")
        self.code, self.description = code, description


def amf(value):
    """One AMF0 value."""
    if value is None:
        return b"\5"
    if isinstance(value, bool):
        return struct.pack(">BB", 1, value)
    if isinstance(value, (int, float)):
        return struct.pack(">Bd", 0, value)
    if isinstance(value, str):
        text = value.encode()
        return struct.pack(">BH", 2, len(text)) + text
    if isinstance(value, list):
        return struct.pack(">BI", 10, len(value)) + b"".join(map(amf, value))
    return b"\3" + b"".join(struct.pack(">H", len(k)) + k.encode() + amf(v) for k, v in value.items()) + b"\0\0\x09"


def unamf(data):
    """All AMF0 values in `data`."""
    at, values = 0, []

    def take(size):
        nonlocal at
        at += size
        return data[at - size : at]

    def text():
        return take(struct.unpack(">H", take(2))[0]).decode()

    def value():
        kind = take(1)[0]
        if kind == 0:
            return struct.unpack(">d", take(8))[0]
        if kind == 1:
            return take(1) != b"\0"
        if kind == 2:
            return text()
        if kind in (3, 8):
            if kind == 8:
                take(4)
            found = {}
            while (key := text()) or data[at] != 9:
                found[key] = value()
            take(1)
            return found
        if kind in (5, 6):
            return None
        if kind == 10:
            return [value() for _ in range(struct.unpack(">I", take(4))[0])]
        raise ValueError(f"AMF0 type {kind}")

    while at < len(data):
        values.append(value())
    return values


class RtmpClient:
    """A connection to the ingress. Every wait ends after `timeout` seconds."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.chunk_in, self.partial, self.headers = 128, {}, {}
        self.chunk_out = 128

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def read(self, size):
        data = b""
        while len(data) < size:
            got = self.socket.recv(size - len(data))
            if not got:
                raise ConnectionError("the server closed the connection")
            data += got
        return data

    def handshake(self, hello="plain"):
        """`hello` is "plain", or "digest0" or "digest1" for the two places where Flash Player and its likes put a digest."""
        if hello != "plain":
            return self._digest_handshake(int(hello[-1]))
        self.socket.sendall(b"\3" + bytes(8) + os.urandom(1528))
        answer = self.read(1 + 1536)
        self.socket.sendall(answer[1:])
        self.read(1536)

    def _digest_handshake(self, scheme):
        """Signs what it says and believes nothing that is not signed."""
        c1 = bytearray(bytes(4) + bytes([128, 0, 7, 2]) + os.urandom(1528))
        at = digest_place(c1, scheme)
        c1[at : at + 32] = sign(PLAYER_KEY[:30], c1[:at] + c1[at + 32 :])
        self.socket.sendall(b"\3" + c1)
        s1, s2 = self.read(1 + 1536)[1:], self.read(1536)
        there = digest_place(s1, scheme)
        if s1[there : there + 32] != sign(SERVER_KEY[:36], s1[:there] + s1[there + 32 :]):
            raise ConnectionError("S1 is not signed")
        if s2[-32:] != sign(sign(SERVER_KEY, c1[at : at + 32]), s2[:-32]):
            raise ConnectionError("S2 is not signed for our digest")
        c2 = os.urandom(1504)
        self.socket.sendall(c2 + sign(sign(PLAYER_KEY, s1[there : there + 32]), c2))

    def set_chunk_size(self, size):
        self.send(1, struct.pack(">I", size), channel=2)
        self.chunk_out = size

    def send(self, kind, payload, stream=0, channel=3, time=0):
        """One message in chunks; `time` in milliseconds, below 2^32."""
        extended = struct.pack(">I", time) if time >= 0xFFFFFF else b""
        head = struct.pack(">B", channel) + min(time, 0xFFFFFF).to_bytes(3, "big") + len(payload).to_bytes(3, "big")
        head += struct.pack(">B", kind) + struct.pack("<I", stream) + extended
        parts = [payload[i : i + self.chunk_out] for i in range(0, len(payload), self.chunk_out)] or [b""]
        self.socket.sendall(head + (struct.pack(">B", 0xC0 | channel) + extended).join(parts))

    def command(self, *values, stream=0):
        self.send(20, b"".join(map(amf, values)), stream)

    def message(self):
        """(type, payload) of the next whole message."""
        while True:
            first = self.read(1)[0]
            form, channel = first >> 6, first & 63
            if channel < 2:
                channel = 64 + int.from_bytes(self.read(channel + 1), "little")
            size, kind = self.headers.get(channel, (0, 0))
            if form < 3:
                head = self.read({0: 11, 1: 7, 2: 3}[form])
                if form < 2:
                    size, kind = int.from_bytes(head[3:6], "big"), head[6]
                    self.headers[channel] = (size, kind)
                if head[:3] == b"\xff\xff\xff":
                    self.read(4)
            part = self.partial.pop(channel, b"")
            part += self.read(min(self.chunk_in, size - len(part)))
            if len(part) < size:
                self.partial[channel] = part
                continue
            if kind == 1:
                self.chunk_in = struct.unpack(">I", part)[0]
                continue
            return kind, part

    def answer(self, *names):
        """The next command with one of these names, as its list of values."""
        while True:
            kind, payload = self.message()
            if kind == 20 and (values := unamf(payload))[0] in names:
                return values

    def connect(self, app="live", hello="plain", **more):
        """`more` goes into connect's object. Returns what the server says about itself."""
        self.handshake(hello)
        self.command("connect", 1, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}", "flashVer": "e2e", **more})
        return self.answer("_result")[2:]

    def publish(self, name):
        """Asks to publish under `name`; raises Refused with the server's words."""
        self.command("createStream", 2, None)
        stream = int(self.answer("_result")[3])
        self.command("publish", 3, None, name, "live", stream=stream)
        status = self.answer("onStatus", "_error")[3]
        if status["level"] != "status":
            raise Refused(status["code"], status.get("description", ""))
        return stream

    def goodbye(self, name, stream):
        """The end of a stream, as OBS and librtmp say it."""
        self.command("FCUnpublish", 4, None, name)
        self.command("deleteStream", 5, None, stream)
