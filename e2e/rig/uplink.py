"""The way from the ingress to livekit-server: a proxy that loses, delays or cuts what goes over it.

The ingress dials the signalling at `url`, on ::1, and is told a media address on ::1 too. So all it can tell the server of itself
is ::1, where the server, which has IPv4 only, does not look: nothing finds a way past the proxy. Media over TCP is not touched.
"""

import asyncio
import base64
import json
import re

from .lossy import Losses

# As long as "127.0.0.1", so that it can take its place in a message without a change of lengths.
LOOPBACK6 = b"0:0:0::01"


class Uplink(Losses):
    """`async with Uplink(stack) as uplink:` between the start of livekit-server and that of the ingress. `kbits` makes the way from
    the ingress narrow."""

    def __init__(self, stack, loss=0.0, reorder=0.0, seed=1):
        super().__init__(loss, reorder, seed)
        self.stack = stack
        self.blocked = False  # UDP gets nowhere
        self.refusing = False  # signalling is not answered
        self.valid_until = 0  # tokens that expire before this moment are refused, as if it were later
        self.expired = 0  # how many were
        self.dialled = 0
        self.upstream, self.lines, self._opening = {}, set(), {}

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.server = await asyncio.start_server(self._line, "::1", 0)
        self.url = f"ws://[::1]:{self.server.sockets[0].getsockname()[1]}"
        self.udp, _ = await loop.create_datagram_endpoint(lambda: _Side(self._out), local_addr=("::1", 0))
        own, port = self.udp.get_extra_info("sockname")[1], self.stack.port["rtc_udp"]
        assert len(str(own)) == len(str(port))
        self.told = re.compile(rb"udp (\d+) 127\.0\.0\.1 %d typ" % port)
        self.instead = rb"udp \1 %s %d typ" % (LOOPBACK6, own)
        self.stack.ingress_ws_url = self.url
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        self.cut()
        for transport in [self.udp, *self.upstream.values()]:
            transport.close()

    def cut(self):
        """Breaks the signalling connections; new ones may be opened."""
        for writer in list(self.lines):
            writer.transport.abort()

    def forget(self):
        """Closes what is open for media of sessions that are over."""
        for transport in self.upstream.values():
            transport.close()
        self.upstream.clear()
        self._opening.clear()

    # signalling -----------------------------------------------------------------------------------------------------------

    async def _line(self, reader, writer):
        self.dialled += 1
        if self.refusing:
            return writer.transport.abort()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.stack.port["livekit"])
        except OSError:
            return writer.transport.abort()
        ends = {writer, far_writer}
        self.lines |= ends
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if expires(head) < self.valid_until:
                self.expired += 1
                writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 16\r\nConnection: close\r\n\r\ntoken is expired")
                await writer.drain()
                writer.close()
                return far_writer.transport.abort()
            far_writer.write(head)
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer, True))
        except (asyncio.CancelledError, asyncio.IncompleteReadError):
            pass  # the test is over; asyncio's streams print what is not caught here
        finally:
            self.lines -= ends

    async def _copy(self, reader, writer, rewrite=False):
        try:
            while data := await reader.read(1 << 16):
                writer.write(self.told.sub(self.instead, data) if rewrite else data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    # media ----------------------------------------------------------------------------------------------------------------

    def _out(self, data, source):
        """From the ingress."""
        if self.blocked:
            return
        if source not in self.upstream:
            if source not in self._opening:
                self._opening[source] = asyncio.ensure_future(self._open(source))
            return  # a check that is sent again
        self.narrow(data, lambda: self._pass(data, self.upstream[source], None))

    async def _open(self, source):
        far = ("127.0.0.1", self.stack.port["rtc_udp"])
        back = lambda data, _: self.blocked or self._pass(data, self.udp, source)
        self.upstream[source], _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Side(back), remote_addr=far)

    def _pass(self, data, transport, to):
        late = self.late(data)
        if late:
            asyncio.get_running_loop().call_later(late, transport.sendto, data, to)
        elif late is not None:
            transport.sendto(data, to)


def expires(head):
    """When the token of a request expires, in seconds since 1970; a request without one never does."""
    found = re.search(rb"bearer [\w-]+\.([\w-]+)", head, re.IGNORECASE)
    return json.loads(base64.urlsafe_b64decode(found[1] + b"==="))["exp"] if found else float("inf")


class _Side(asyncio.DatagramProtocol):
    def __init__(self, got):
        self.datagram_received = got

    def error_received(self, error):
        """A server that is away."""
