"""Garbage connections, many a second: what a port on the internet is scanned with."""

import asyncio
import os
import time

# What they say: nothing, a byte, HTTP, TLS, noise, half a handshake, and a whole one with noise behind it.
SAID = [b"", b"\3", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\3\1\2\0\1" + bytes(200), os.urandom(2000), b"\3" + bytes(700), b"\3" + bytes(3072) + b"\xff" * 500]


def garbage(ports, rate, seconds):
    """Opens `rate` connections a second to these ports in turn, each with something of `SAID`; each is kept for a second or until it is
    closed. Gives how many were opened. To be run in a process of its own."""
    os.nice(5)
    return asyncio.run(_garbage(ports, rate, seconds))


async def _garbage(ports, rate, seconds):
    began, opened, open_now = time.monotonic(), 0, set()

    async def one(port, said):
        nonlocal opened
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        opened += 1
        try:
            writer.write(said)
            await asyncio.wait_for(reader.read(), 1)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    for i in range(int(rate * seconds)):
        wait = began + i / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        if time.monotonic() > began + seconds:
            break
        task = asyncio.create_task(one(ports[i % len(ports)], SAID[i // len(ports) % len(SAID)]))
        open_now.add(task)
        task.add_done_callback(open_now.discard)
    await asyncio.gather(*open_now)
    return opened
