"""Where a pull may not lead, by whatever way it is asked for, and what is said of servers that can't be reached or trusted."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from conftest import run
from rig import Stack, Viewer, free_ports, wait_for
from rig.certificates import certify
from rig.pulls import AAC, FAST, H264, URL, fails, make, plays
from rig.together import at_once
from rig.web import Web

REFUSED = "must not be pulled from"


def for_this_machine(directory, name):
    """A certificate for 127.0.0.1 and localhost: NAME.pem with its key, and NAME.pem.cert without."""
    path = directory / f"{name}.pem"
    parts = Path(f"{path}.cert"), Path(f"{path}.key")
    certify(*parts, "e2e", "subjectAltName=IP:127.0.0.1,DNS:localhost", "basicConstraints=critical,CA:FALSE")
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def server_tls(path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


class Talker:
    """A TCP server that answers each connection's first words with `answer`, or never; with `tls` over TLS. `forward` is a port whose
    server talks instead. `heard` are the first words."""

    def __init__(self, answer=b"", tls=None, forward=None, host="127.0.0.1"):
        self.answer, self.tls, self.forward, self.heard, self.callers = answer, tls, forward, [], 0
        self.socket = socket.create_server((host, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            self.callers += 1
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client):
        try:
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            if self.forward:
                server = socket.create_connection(("127.0.0.1", self.forward))
                # Not TLS and reading and writing in two threads at a time: Python locks each socket for itself.
                client.settimeout(0.01)
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()
                self._on(client, server)
            else:
                self.heard.append(client.recv(4096))
                if self.answer:
                    client.sendall(self.answer)
                client.recv(4096)
        except OSError:
            pass
        finally:
            client.close()

    @staticmethod
    def _on(client, server):
        while True:
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return server.close()
            server.sendall(data)

    @staticmethod
    def _back(server, client):
        try:
            while data := server.recv(65536):
                while data:
                    try:
                        data = data[client.send(data) :]
                    except TimeoutError:
                        continue
        except OSError:
            client.close()

    def close(self):
        self.socket.close()


@pytest.fixture(scope="module")
def ports():
    return dict(zip(("rtsp", "closed"), free_ports(2)))


@pytest.fixture(scope="module")
def talkers(tmp_path_factory):
    """Servers by name."""
    directory = tmp_path_factory.mktemp("tls")
    trusted, other = for_this_machine(directory, "trusted"), for_this_machine(directory, "other")
    moved = b"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.2:1/live\r\n\r\n"
    made = {
        "moved": Talker(moved),
        "silent": Talker(),
        "words": Talker(b"HTTP/1.0 200 OK\r\n\r\nhello"),
        "deaf-tls": Talker(),
    }
    made["directory"], made["trusted"], made["other"] = directory, trusted, other
    yield made
    for talker in made.values():
        if isinstance(talker, Talker):
            talker.close()


@pytest.fixture(scope="module")
def stack(ports, talkers):
    """A stack that refuses private addresses but for one, and trusts one certificate."""
    secure = Talker(tls=server_tls(talkers["trusted"]), forward=ports["rtsp"])
    ports["secure"] = secure.port
    stranger = Talker(tls=server_tls(talkers["other"]), forward=ports["rtsp"])
    redirect = Talker(f"RTSP/1.0 301 Moved\r\nCSeq: 1\r\nLocation: rtsp://localhost:{ports['rtsp']}/live\r\n\r\n".encode())
    aliases = {
        "secure": f"rtsps://localhost:{secure.port}/live",
        "stranger": f"rtsps://127.0.0.1:{stranger.port}/live",
        "there": f"rtsp://127.0.0.1:{redirect.port}/old",
        "moved": f"rtsp://127.0.0.1:{talkers['moved'].port}/live",
        "silent": f"rtsp://127.0.0.1:{talkers['silent'].port}/live",
        "deaf": f"rtsps://127.0.0.1:{talkers['deaf-tls'].port}/live",
        "words": f"rtsp://127.0.0.1:{talkers['words'].port}/live",
        "closed": f"rtsp://127.0.0.1:{ports['closed']}/live",
        "nobody": "rtsp://no-such-name.invalid/live",
        "private": "rtsp://127.0.0.2/live",
        "mapped": "rtsps://[::ffff:10.0.0.1]/live",
    }
    yaml = "url: {timeout: 2s, reconnect: 1s, refuse_private: true, allow: [127.0.0.1, localhost]}\nurl_aliases:\n"
    yaml += "".join(f'  {name}: "{url}"\n' for name, url in aliases.items())
    wrap = ["env", f"SSL_CERT_FILE={talkers['trusted']}.cert"]
    for s in run(Stack(ingress_yaml=yaml, wrap=wrap)):
        yield s.start()


async def all_fail(stack, urls, words):
    """Each of these URLs ends with these words."""

    async def one(name, url):
        error = await fails(stack, name, url)
        wanted = words if isinstance(words, str) else words[name]
        assert wanted in error, f"{url}: {error}"

    await at_once(*(one(name, url) for name, url in urls.items()))


async def test_refused_addresses_in_every_notation(stack):
    hosts = ["127.0.0.2", "10.0.0.1", "192.168.0.1", "[::1]", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "2130706434", "0x7f.2", "0", "[64:ff9b::a00:1]",
             "[::ffff:169.254.169.254]", "169.254.169.254"]
    urls = {f"g-{i}": f"http://{host}/a.mp4" for i, host in enumerate(hosts)}
    urls |= {"g-srt": "srt://10.0.0.1:9000", "g-srt6": "srt://[::ffff:10.0.0.1]:9000", "g-listen": "srt://:9000?mode=listener"}
    urls |= {"g-private": "https://alias.invalid/private", "g-mapped": "https://alias.invalid/mapped"}
    await all_fail(stack, urls, REFUSED)


async def test_redirects_and_playlists_to_refused_hosts(stack, web):
    """Redirects of each protocol, and every address that a playlist has. A server is there, and nobody calls it."""
    forbidden = Talker(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", host="127.0.0.2")
    head, bad = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n", f"http://127.0.0.2:{forbidden.port}/x"
    part, end = "#EXTINF:1,\n", "\n#EXT-X-ENDLIST\n"
    lists = {
        "segment": head + part + bad + end,
        "key": head + f'#EXT-X-KEY:METHOD=AES-128,URI="{bad}"\n' + part + "a.ts" + end,
        "map": head + f'#EXT-X-MAP:URI="{bad}"\n' + part + "a.mp4" + end,
        "variant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{bad}\n",
        "sound": f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="{bad}"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nsegment.m3u8\n',
        "live": head + part + bad + "\n",
        "redirected": head + part + "/to/" + bad + end,
    }
    for name, text in lists.items():
        (stack.dir / f"{name}.m3u8").write_text(text)
    urls = {f"w-{name}": f"{web.url}/file/{name}.m3u8" for name in lists}
    urls |= {"w-moved": f"{web.url}/to/{bad}", "w-moved6": f"{web.url}/to/http://[::ffff:10.0.0.1]/", "w-rtsp": "https://alias.invalid/moved"}
    try:
        await all_fail(stack, urls, REFUSED)
        # Its own eyes: a call would be seen.
        assert forbidden.callers == 0, forbidden.heard
        socket.create_connection(("127.0.0.2", forbidden.port), 5).close()
        wait_for("a call seen", 5, lambda: forbidden.callers == 1)
    finally:
        forbidden.close()


async def test_unreachable_and_untrusted_servers(stack, web, ports, talkers):
    make(stack, "fast.mp4", *H264, *AAC, *FAST)
    untrusted = Web(stack.dir, server_tls(talkers["other"]))
    web.server.stall = 4.0
    urls = {
        "u-tls": (f"{untrusted.url}/file/fast.mp4", "its certificate is from nobody"),
        "u-no-tls": (f"{web.url.replace('http:', 'https:')}/file/fast.mp4", "it does not speak TLS there"),
        "u-silent": (f"{web.url}/silent/x", "did not answer within 2s"),
        "u-deaf": (f"https://127.0.0.1:{talkers['deaf-tls'].port}/x", "did not finish TLS within 2s"),
        "u-closed": (f"http://127.0.0.1:{ports['closed']}/x", "refused the connection"),
        "u-name": ("http://no-such-name.invalid/x", "the name no-such-name.invalid has no address"),
        "u-words": (f"http://127.0.0.1:{talkers['moved'].port}/x", "does not speak HTTP"),
        "c-stranger": ("https://alias.invalid/stranger", "its certificate is from nobody"),
        "c-deaf": ("https://alias.invalid/deaf", "did not finish TLS within 2s"),
        "c-closed": ("https://alias.invalid/closed", "refused the connection"),
        "c-name": ("https://alias.invalid/nobody", "the name no-such-name.invalid has no address"),
        "c-silent": ("https://alias.invalid/silent", "RTSP: nothing came for 2s"),
        "c-words": ("https://alias.invalid/words", "does not speak RTSP"),
    }
    try:
        await all_fail(stack, {name: url for name, (url, _) in urls.items()}, {name: words for name, (_, words) in urls.items()})
    finally:
        untrusted.close()


async def test_trusted_servers(stack, talkers):
    """https, with a certificate that the system knows."""
    make(stack, "fast.mp4", *H264, *AAC, *FAST)
    secure = Web(stack.dir, server_tls(talkers["trusted"]))
    try:
        await plays(stack, "https", f"{secure.url}/file/fast.mp4")
    finally:
        secure.close()


@pytest.mark.parametrize("alias", ["secure", "there"])
async def test_a_camera_behind_tls_and_a_redirect(stack, ports, alias):
    if not any(p.name == "rtsp" for p in stack.programs):
        stack.start_rtsp(ports["rtsp"], "called", f"localhost:{ports['rtsp']}", f"localhost:{ports['secure']}")
    async with Viewer(stack, alias) as viewer:
        info = await stack.create(alias, input_type=URL, url=f"https://alias.invalid/{alias}")
        await viewer.wait_size(320, 180)
        await viewer.wait_sound()
        await stack.delete(info.ingress_id)
