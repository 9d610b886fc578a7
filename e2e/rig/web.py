"""An HTTP server on loopback that serves files, well or badly: with or without ranges, slowly, in pieces, broken, redirected.

The first part of a path says how: /plain/clip.mp4 serves clip.mp4 without ranges. The words are in `Handler.HOW`.
"""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def parts(name, data):
    """A file as a server of streams has it: what whoever joins is told first, and what follows."""
    if name.endswith(".ogg"):
        pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]
        return b"".join(pages[:2]), pages[2:]
    if name.endswith(".flv"):
        at, tags = 13, []  # a tag is 11 bytes, its data and 4 more (FLV 10.1, E.3)
        while at < len(data):
            end = at + 15 + int.from_bytes(data[at + 1 : at + 4], "big")
            tags.append(data[at:end])
            at = end
        # Metadata, and a sequence header of each track.
        told = [tag for tag in tags if tag[0] == 18 or tag[12] == 0 and tag[0] in (8, 9)]
        return data[:13] + b"".join(told), [tag for tag in tags if tag not in told]
    return b"", [data[i : i + 1000] for i in range(0, len(data) // 1000 * 1000, 1000)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    PIECE = 64 << 10

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        how, _, name = self.path.lstrip("/").partition("/")
        name = name.partition("?")[0]
        action = getattr(self, f"how_{how}", None)
        if action is None:
            return self.answer(404)
        try:
            action(name)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # how ------------------------------------------------------------------------------------------------------------------

    def how_file(self, name):
        """With ranges, as servers of files do."""
        self.send(name)

    def how_plain(self, name):
        """Without ranges."""
        self.send(name, ranges=False)

    def how_chunked(self, name):
        """Without ranges and length."""
        data = self.read(name)
        self.head(200, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), self.PIECE):
            piece = data[at : at + self.PIECE]
            self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def how_stall(self, name):
        """With ranges; every answer stands still for `server.stall` seconds after its first half megabyte."""
        self.send(name, after=(512 << 10, lambda: time.sleep(self.server.stall)))

    def how_until(self, name):
        """With ranges; what lies behind the file's first `server.until` bytes comes only after `server.stall` seconds."""
        asked = re.match(r"bytes=(\d+)", self.headers.get("Range", ""))
        left = self.server.until - (int(asked[1]) if asked else 0)
        self.send(name, after=(max(0, left), lambda: time.sleep(self.server.stall)))

    def how_broken(self, name):
        """With ranges; every answer breaks off after 200 kB."""
        self.send(name, after=(200_000, self.hang_up))

    def how_cut(self, name):
        """Without ranges; breaks off half way."""
        self.send(name, ranges=False, after=(len(self.read(name)) // 2, self.hang_up))

    def how_relapse(self, name):
        """Without ranges; breaks off half way the first time."""
        first = sum(path == self.path for path, _ in self.server.requests) == 1
        self.send(name, ranges=False, after=(len(self.read(name)) // 2, self.hang_up) if first else None)

    def how_endless(self, name):
        """As a live stream: chunked, a file of `server.pace` seconds at its pace; cut, and gone (404), while `server.away` is set."""
        if self.server.away:
            return self.answer(404)
        self.head(200, {"Transfer-Encoding": "chunked"})
        self.flow(name, lambda piece: b"%x\r\n" % len(piece) + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def how_radio(self, name):
        """The same as SHOUTcast does it: no HTTP, and a title that nobody asked for after each 1000 bytes."""
        if self.server.away:
            return self.answer(404)
        self.wfile.write(b"ICY 200 OK\r\nicy-name: rig\r\ncontent-type: audio/mpeg\r\nicy-metaint: 1000\r\n\r\n")
        self.close_connection = True
        self.flow(name, lambda piece: piece + b"\x02" + b"StreamTitle='x';".ljust(32, b"\0"))

    def how_icecast(self, name):
        """As Icecast does it whose source has just begun: half of the file at once, and then a second at a time."""
        if self.server.away:
            return self.answer(404)
        self.wfile.write(b"HTTP/1.0 200 OK\r\nServer: Icecast 2.4.4\r\nContent-Type: audio/mpeg\r\n\r\n")
        self.close_connection = True
        data = self.read(name)
        half, second = len(data) // 2, len(data) // int(self.server.pace)
        self.wfile.write(data[:half])
        for at in range(half, len(data), second):
            self.wfile.write(data[at : at + second])
            for _ in range(10):
                time.sleep(0.1)
                if self.server.away:
                    self.hang_up()

    def flow(self, name, framed):
        """Goes on in `name` where the stream is by now, for all who listen. Hangs up when `server.away` is set."""
        head, pieces = parts(name, self.read(name))
        start = self.server.flowing.setdefault(name, time.monotonic())
        each = self.server.pace / len(pieces)
        at = int((time.monotonic() - start) / each)
        self.wfile.write(framed(head) if head else b"")
        for i, piece in enumerate(pieces[at:], at):
            time.sleep(max(0.0, start + i * each - time.monotonic()))
            if self.server.away:
                self.hang_up()
            self.wfile.write(framed(piece))

    def how_moved(self, name):
        """Somewhere else."""
        self.answer(302, {"Location": f"/file/{name}?token=secret"})

    def how_to(self, address):
        """To this address."""
        self.answer(302, {"Location": address})

    def how_loop(self, name):
        self.answer(302, {"Location": f"/loop/{name}"})

    def how_metadata(self, _):
        self.answer(302, {"Location": "http://[::ffff:169.254.169.254]/latest/meta-data"})

    def how_local(self, _):
        self.answer(302, {"Location": "file:///etc/passwd"})

    def how_status(self, name):
        self.answer(int(name))

    def how_silent(self, _):
        time.sleep(self.server.stall)
        self.hang_up()

    def how_drip(self, name):
        """The file's first bytes, and then one each half second."""
        self.send(name, ranges=False, after=(20, self.drip))

    def how_login(self, name):
        """Wants the user "viewer" with the password "pa:ss"."""
        if self.headers.get("Authorization") != "Basic dmlld2VyOnBhOnNz":
            return self.answer(401)
        self.send(name)

    # parts ----------------------------------------------------------------------------------------------------------------

    def read(self, name):
        return (self.server.root / name).read_bytes()

    def hang_up(self):
        self.close_connection = True
        raise BrokenPipeError

    def drip(self):
        while True:
            self.wfile.write(b" ")
            time.sleep(0.5)

    def head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, status, headers=None):
        self.head(status, {"Content-Length": "0", **(headers or {})})

    def send(self, name, ranges=True, after=None):
        path = self.server.root / name
        if not path.is_file():
            return self.answer(404)
        size = path.stat().st_size
        asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", "")) if ranges else None
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]) if asked and asked[2] else size - 1, size - 1)
        if asked and first >= size:
            return self.answer(416)
        headers = {"Content-Length": str(last + 1 - first), "Content-Type": "application/octet-stream"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.head(206 if asked else 200, headers)
        sent = 0
        with path.open("rb") as f:
            f.seek(first)
            while sent < last + 1 - first:
                piece = f.read(min(self.PIECE, last + 1 - first - sent))
                if not piece:
                    break
                if after and sent + len(piece) > after[0]:
                    self.wfile.write(piece[: after[0] - sent])
                    self.wfile.flush()
                    after[1]()
                    piece, sent, after = piece[after[0] - sent :], after[0], None
                self.wfile.write(piece)
                sent += len(piece)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that hang up are no news."""


class Web:
    """Serves `root`. `requests` are those it saw: path and headers."""

    def __init__(self, root, tls=None, host="127.0.0.1"):
        self.server = Server((host, 0), Handler)
        self.server.root, self.server.requests, self.server.stall, self.server.until = Path(root), [], 3.0, 0
        self.server.away, self.server.pace, self.server.flowing = False, 10.0, {}
        scheme = "http"
        if tls:
            scheme = "https"
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.authority = f"{host}:{self.server.server_address[1]}"
        self.url = f"{scheme}://{self.authority}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def requests(self):
        return self.server.requests

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
