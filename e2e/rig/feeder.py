"""An encoder whose every tag and timestamp a test decides: clips made beforehand, played over RTMP at their pace."""

import asyncio
import time

from . import flv
from .rtmp import RtmpClient

CHUNK = 4096  # as OBS


class Feeder:
    """`async with Feeder(stack, key) as feeder:` publishes; [`play`] feeds. `sent` tells when each numbered picture left."""

    def __init__(self, stack, key, hello="plain", greeting=None):
        self.port, self.key, self.hello, self.greeting = stack.port["rtmp"], key, hello, greeting
        self.sent, self.client, self.stream, self.about = {}, None, 1, None

    async def __aenter__(self):
        await asyncio.to_thread(self._publish)
        return self

    def _publish(self):
        self.client = RtmpClient(self.port)
        self.about = self.client.connect(hello=self.hello, **(self.greeting or {}))
        self.client.set_chunk_size(CHUNK)
        self.stream = self.client.publish(self.key)

    async def __aexit__(self, *exc):
        await asyncio.to_thread(self.client.close)

    async def play(self, tags, number=0, stamp=lambda t: t, pace=lambda t: t):
        """Sends each tag when `pace` (ms of the clip → ms from now) says, with `stamp` (ms of the clip → ms) as its time.

        `number` is that of the first picture. Both functions get the tag's own time, which rises."""
        start = time.monotonic()
        for tag in tags:
            due = start + pace(tag.time) / 1000
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if flv.is_picture(tag):
                self.sent[number] = time.monotonic()
                number += 1
            await self.send(tag.kind, tag.body, stamp(tag.time))
        return number

    async def send(self, kind, body, at):
        """One message now."""
        await asyncio.to_thread(self.client.send, kind, body, self.stream, 6, int(at) & 0xFFFFFFFF)

    def status(self):
        """The next status that the server sends of itself."""
        return self.client.answer("onStatus")[3]

    async def goodbye(self):
        """Ends the stream as OBS does."""
        await asyncio.to_thread(self.client.goodbye, self.key, self.stream)
