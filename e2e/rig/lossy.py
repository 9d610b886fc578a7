"""A bad network: a UDP proxy between a WHIP client and the ingress that drops and delays some of the media."""

import asyncio
import random
import re

import aiohttp
from aiohttp import web

# How late a delayed datagram comes, in seconds: behind the next few.
LATE = 0.02
# Seconds of media that wait before a narrow way, as in a home router; what comes then is dropped.
QUEUE = 0.3


class Losses:
    """What becomes of media on a bad network. RTP and RTCP only (RFC 7983 §7): the handshakes are not what is tested."""

    def __init__(self, loss, reorder, seed):
        self.loss, self.reorder, self.dice = loss, reorder, random.Random(seed)
        self.media = self.dropped = 0
        self.kbits = None  # so much a second gets through on a narrow way, behind a queue of QUEUE seconds
        self._free = 0.0

    def narrow(self, data, send):
        """Calls `send` once there is room for this datagram, or never."""
        if self.kbits is None:
            return send()
        loop = asyncio.get_running_loop()
        self._free = max(self._free, loop.time())
        if self._free - loop.time() < QUEUE:
            self._free += len(data) * 8 / 1000 / self.kbits
            loop.call_at(self._free, send)

    def late(self, data):
        """How many seconds late this datagram comes; None if it does not."""
        if data[0] & 0xC0 != 0x80:
            return 0.0
        self.media += 1
        if self.dice.random() < self.loss:
            self.dropped += 1
            return None
        return LATE if self.dice.random() < self.reorder else 0.0


class Lossy(Losses, asyncio.DatagramProtocol):
    """Stands in front of the media port that an answer names; `answer` is the answer with the proxy's port in it."""

    def __init__(self, answer, loss, reorder=0.0, seed=1):
        super().__init__(loss, reorder, seed)
        port = int(re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) typ", answer, re.I).group(1))
        self.original, self.server, self.client = answer, ("127.0.0.1", port), None
        self.lost, self.passed = set(), set()  # RTP packets of the client's, by payload type, SSRC and sequence number

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        own = self.transport.get_extra_info("sockname")[1]
        self.answer = self.original.replace(f" {self.server[1]} typ", f" {own} typ")
        return self

    async def __aexit__(self, *exc):
        self.transport.close()

    def datagram_received(self, data, source):
        if source != self.server:
            self.client = source
        to = self.client if source == self.server else self.server
        if not to:
            return
        if source == self.server:
            self._pass(data, source, to)
        else:
            self.narrow(data, lambda: self._pass(data, source, to))

    def _pass(self, data, source, to):
        late = self.late(data)
        if source != self.server and (packet := rtp(data)):
            (self.lost if late is None else self.passed).add(packet)
        if late is None:
            return
        if late:
            asyncio.get_running_loop().call_later(late, self.transport.sendto, data, to)
        else:
            self.transport.sendto(data, to)


def rtp(data):
    """Payload type, SSRC and sequence number of an RTP packet (RFC 3550 §5.1, RFC 5761 §4); None of anything else."""
    if len(data) < 12 or data[0] & 0xC0 != 0x80 or 192 <= data[1] <= 223:
        return None
    return data[1] & 0x7F, data[8:12], int.from_bytes(data[2:4], "big")


def without_candidates(offer):
    """The offer of a client that can be reached only by the way it comes itself, lest the ingress finds one past the proxy."""
    return "".join(line + "\r\n" for line in offer.splitlines() if not line.startswith("a=candidate"))


class LossyDoor:
    """An address to push WHIP to, behind which all media of that push goes over a bad network: for clients that speak HTTP
    themselves."""

    def __init__(self, stack, loss, reorder=0.0, seed=1):
        self.whip_url, self.how, self.networks = stack.whip_url, dict(loss=loss, reorder=reorder, seed=seed), []

    async def __aenter__(self):
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._pass)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        door = self.runner.addresses[0][1]
        self.url = re.sub(r":\d+/", f":{door}/", self.whip_url, count=1)
        self.inside = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *exc):
        await self.inside.close()
        await self.runner.cleanup()
        for network in self.networks:
            await network.__aexit__()

    async def _pass(self, request):
        body = await request.text()
        if request.method == "POST":
            body = without_candidates(body)
        origin = re.match(r"\w+://[^/]+", self.whip_url)[0]
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self.inside.request(request.method, origin + request.path, data=body.encode(), headers=headers) as got:
            text = await got.text()
            if request.method == "POST" and got.status == 201:
                network = await Lossy(text, **self.how).__aenter__()
                self.networks.append(network)
                text = network.answer
            kept = {k: v for k, v in got.headers.items() if k.lower() not in ("content-length", "transfer-encoding")}
            return web.Response(status=got.status, body=text.encode(), headers=kept)

    @property
    def dropped(self):
        return sum(n.dropped for n in self.networks)
