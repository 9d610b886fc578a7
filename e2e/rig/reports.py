"""Listens on Redis to every state that the ingress reports, also to those that livekit-server then refuses.

Speaks only as much RESP and protobuf as that takes. The message is rpc.UpdateIngressStateRequest inside psrpc's envelope.
"""

import socket
import threading
from collections import namedtuple

from livekit.protocol import ingress as pb

from .stack import status_name

CHANNEL = "IOInfo|UpdateIngressState|REQ"

Report = namedtuple("Report", "ingress_id status error state")


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


class Reports:
    """Every reported state, in order. A repeated attempt to deliver the same state counts once."""

    def __init__(self, stack):
        self.all = []
        self._socket = socket.create_connection(("127.0.0.1", stack.port["redis"]), 5)
        self._socket.settimeout(None)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(f"SUBSCRIBE {CHANNEL}\r\n".encode())
        assert self._reply()[0] == b"subscribe"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _reply(self):
        kind, rest = (line := self._file.readline())[:1], line[1:].strip()
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2]
        if not kind:
            raise ConnectionError("Redis is gone")
        return rest

    def _read(self):
        try:
            while True:
                request = fields(fields(self._reply()[2])[2])
                body = fields(request[8])
                state = pb.IngressState.FromString(body.get(2, b""))
                report = Report(body[1].decode(), status_name(state), state.error, state)
                if report not in self.all:
                    self.all.append(report)
        except (OSError, ConnectionError, ValueError):
            return  # closed

    def of(self, ingress_id):
        return [r for r in list(self.all) if r.ingress_id == ingress_id]

    def statuses(self, ingress_id):
        """Statuses of one ingress in order, repetitions of one and the same folded."""
        names = [r.status for r in self.of(ingress_id)]
        return [n for i, n in enumerate(names) if i == 0 or n != names[i - 1]]

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
