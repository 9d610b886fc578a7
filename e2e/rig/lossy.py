"""A bad network: a UDP proxy between a WHIP client and the ingress that drops and delays some of the media."""

import asyncio
import random
import re

# How late a delayed datagram comes, in seconds: behind the next few.
LATE = 0.02


class Losses:
    """What becomes of media on a bad network. RTP and RTCP only (RFC 7983 §7): the handshakes are not what is tested."""

    def __init__(self, loss, reorder, seed):
        self.loss, self.reorder, self.dice = loss, reorder, random.Random(seed)
        self.media = self.dropped = 0

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
        if not to or (late := self.late(data)) is None:
            return
        if late:
            asyncio.get_running_loop().call_later(late, self.transport.sendto, data, to)
        else:
            self.transport.sendto(data, to)


def without_candidates(offer):
    """The offer of a client that can be reached only by the way it comes itself, lest the ingress finds one past the proxy."""
    return "".join(line + "\r\n" for line in offer.splitlines() if not line.startswith("a=candidate"))
