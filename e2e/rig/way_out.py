"""An HTTP proxy, as the only way out of a network: CONNECT, and GET with a whole URL."""

import asyncio
import base64
from urllib.parse import urlsplit

USER, PASSWORD = "north", "p@ss word"


class WayOut:
    """`async with WayOut(address) as proxy:` listens at `proxy.port`. Asks for a login; keeps in `asked` what it was asked for by whom had
    shown it, and counts in `strangers` who had not."""

    def __init__(self, address):
        self.address, self.asked, self.strangers, self.tasks = address, [], 0, set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._client, self.address, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def url(self):
        return f"http://{USER}:p%40ss%20word@{self.address}:{self.port}"

    async def _client(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ")
        login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if f"Proxy-Authorization: {login}" not in lines:
            self.strangers += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return await writer.drain()
        self.asked.append(f"{method} {target}")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            url = urlsplit(target)
            far_reader, far_writer = await asyncio.open_connection(url.hostname, url.port or 80)
            path = target.removeprefix(f"{url.scheme}://{url.netloc}")
            # One request a connection: what follows would have to be read, too.
            kept = [line for line in lines[1:] if not line.lower().startswith(("proxy-", "connection:"))]
            far_writer.write("\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *kept]).encode())
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            far_writer.transport.abort()

    @staticmethod
    async def _copy(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
