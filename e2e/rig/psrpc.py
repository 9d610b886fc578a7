"""LiveKit's RPC over Redis: what listening to it takes, and a client that asks what livekit-server asks.

Speaks only as much RESP and protobuf as that takes.
"""

import secrets
import socket
import time

TYPE = "type.googleapis.com/internal."


def fields(message):
    """Field number → last value, of a protobuf message of length-delimited fields, varints and fixed numbers."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            found[number] = varint()
        else:
            size = varint() if wire == 2 else {1: 8, 5: 4}[wire]
            found[number] = message[at : at + size]
            at += size
    return found


def protobuf(values):
    """A message of texts, bytes and numbers by field number: what `fields` reads."""

    def varint(value):
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes(out + bytes([value]))

    out = b""
    for number, value in values.items():
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


class Redis:
    """A connection that is subscribed to channels; without any, one that publishes."""

    def __init__(self, port, *channels, patience=None):
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.settimeout(patience)
        self._file = self._socket.makefile("rb")
        for channel in channels:
            self._send("SUBSCRIBE", channel)
            assert self._reply()[0] == b"subscribe"

    def _send(self, *words):
        words = [w.encode() if isinstance(w, str) else w for w in words]
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def _reply(self):
        kind, rest = (line := self._file.readline())[:1], line[1:].strip()
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2]
        if not kind:
            raise ConnectionError("Redis is gone")
        return rest

    def message(self):
        """The next message of a channel that is subscribed to."""
        return self._reply()[2]

    def ask(self, *words):
        """The reply to a command."""
        self._send(*words)
        return self._reply()

    def publish(self, channel, message):
        self._send("PUBLISH", channel, message)
        return int(self._reply())

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def call(stack, service, method, request, seconds=10):
    """Calls a method for which servers bid, and gives the answer's bytes. Words of a refusal are raised."""
    client, asked = f"CLI_{secrets.token_hex(6)}", f"REQ_{secrets.token_hex(6)}"
    claims, answers = f"{service}|{client}|CLAIM", f"{service}|{client}|RES"
    redis, tell = Redis(stack.port["redis"], claims, answers, patience=seconds), Redis(stack.port["redis"])
    try:
        now = time.time_ns()
        body = protobuf({1: asked, 2: client, 3: now, 4: now + int(seconds * 1e9), 8: request})
        assert tell.publish(f"{service}|{method}|REQ", protobuf({1: TYPE + "Request", 2: body})), "nobody serves this"
        while True:
            envelope = fields(redis.message())
            message = fields(envelope[2])
            if envelope[1].decode() == TYPE + "ClaimRequest":
                grant = protobuf({1: asked, 2: message[2]})
                tell.publish(f"{service}|{method}|RCLAIM", protobuf({1: TYPE + "ClaimResponse", 2: grant}))
            elif 5 in message:
                raise RuntimeError(message[5].decode())
            else:
                return message.get(7, b"")
    finally:
        redis.close()
        tell.close()
