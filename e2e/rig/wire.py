"""What lies between the ingress and livekit-server: signalling that can be cut, and media by way of a bad network."""

import asyncio
import contextlib
import threading

from .lossy import Lossy


class Wire:
    """`with Wire(stack, loss=0.05):` stands before the livekit-server of `stack`, and both it and the ingress are started within.

    It runs in a thread of its own, so that nothing a test does delays media. Options are those of `Lossy`. Signalling passes as
    it is, but for the media port, in the place of which the ingress is told of the proxy's."""

    def __init__(self, stack, **options):
        self.stack, self.options = stack, options
        self.severed = False
        self.opened = 0  # connections for signalling so far
        self._connections, self._ready = set(), threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        self.stack.ingress_ws_url = f"ws://127.0.0.1:{self._port}"
        self.stack.ice_lite = True  # or it finds a way past the proxy
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def cut(self):
        """Breaks signalling. New connections are hung up on until `mend`."""
        self.severed = True
        self._loop.call_soon_threadsafe(self._hang_up)

    def mend(self):
        """Lets new connections through. Gives how many there have been so far."""
        self.severed = False
        return self.opened

    def block(self, blocked=True):
        """Keeps UDP from passing."""
        self.network.blocked = blocked

    def _hang_up(self):
        for writer in self._connections:
            writer.transport.abort()

    async def _run(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with Lossy(self.stack.port["rtc_udp"], **self.options) as self.network:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self._port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._end.wait()
            server.close()
            self._hang_up()

    async def _serve(self, reader, writer):
        if self.severed:
            writer.transport.abort()
            return
        self.opened += 1
        there, beyond = await asyncio.open_connection("127.0.0.1", self.stack.port["livekit"])
        self._connections |= {writer, beyond}
        # What a server sends by WebSocket is not masked (RFC 6455 §5.1), and a port of as many digits changes no length.
        real, proxy = (f" 127.0.0.1 {port} typ".encode() for port in (self.network.server[1], self.network.port))
        assert len(real) == len(proxy)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_pass(reader, beyond), _pass(there, writer, real, proxy))
        self._connections -= {writer, beyond}


async def _pass(reader, writer, old=b"", new=b""):
    held = b""
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while piece := await reader.read(1 << 16):
            piece = held + piece
            if old:
                piece = piece.replace(old, new)
            # What may be the beginning of `old` waits for the rest of it.
            keep = next((n for n in range(min(len(old) - 1, len(piece)), 0, -1) if piece.endswith(old[:n])), 0)
            held = piece[len(piece) - keep :]
            writer.write(piece[: len(piece) - keep])
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.write(held)
    writer.transport.close()
