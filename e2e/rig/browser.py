"""A headless Chromium with a page that publishes over WHIP, driven over its debugging port.

The page draws a moving canvas with a numbered strip (see picture.py) and plays a tone; no camera, no microphone, no files.
"""

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import aiohttp

from .picture import BITS, BLOCKS
from .processes import Program, free_ports

# What the page can do: `start` publishes, `restartIce` and `remove` speak to the session, `stats` tells what was sent.
PAGE = r"""
const BITS = %(bits)d, BLOCKS = %(blocks)d;
function paint(context, width, height, number) {
  const rows = Math.floor(height / 6 / 2) * 2, top = Math.floor((height - rows) / 2), edge = k => Math.round(k * width / BLOCKS);
  context.fillStyle = `hsl(${number * 3 %% 360} 50%% 50%%)`;
  context.fillRect(0, 0, width, height);
  context.fillStyle = '#777';
  context.fillRect(0, top, width, rows);
  const block = (k, white) => {
    context.fillStyle = white ? '#fff' : '#000';
    context.fillRect(edge(k), top, edge(k + 1) - edge(k), rows);
  };
  block(1, true);
  for (let i = 0; i < BITS; i++) block(2 + i, number >> i & 1);
  block(BITS + 2, false);
}
function media(width, height, fps) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext('2d');
  let number = 0;
  const tick = () => paint(context, width, height, number++);
  tick();
  setInterval(tick, 1000 / fps);
  const sound = new AudioContext(), tone = sound.createOscillator(), out = sound.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  return new MediaStream([...canvas.captureStream(fps).getTracks(), ...out.stream.getTracks()]);
}
// Of a Link header (RFC 9725 §4.6).
function servers(link) {
  const each = (link || '').matchAll(/<([^>]+)>; rel="ice-server"(?:; username="(.*?)"; credential="(.*?)")?/g);
  return [...each].map(([, urls, username, credential]) => ({urls, username, credential}));
}
const whip = {
  // o: {url, key, width, height, fps, codec, rids: [[rid, scale]…], svc: a scalabilityMode, trickle, told}
  async start(o) {
    const pc = this.pc = new RTCPeerConnection(), stream = media(o.width, o.height, o.fps);
    this.key = o.key;
    for (const track of stream.getTracks()) {
      const video = track.kind === 'video';
      const svc = video && o.svc ? {scalabilityMode: o.svc} : {};
      const layers = video && o.rids ? o.rids.map(([rid, by]) => ({rid, scaleResolutionDownBy: by, ...svc})) : [svc];
      const transceiver = pc.addTransceiver(track, {direction: 'sendonly', streams: [stream], sendEncodings: layers});
      if (video && o.codec) {
        const all = RTCRtpSender.getCapabilities('video').codecs;
        const chosen = all.filter(c => c.mimeType.toLowerCase() === 'video/' + o.codec.toLowerCase());
        if (!chosen.length) return {unsupported: o.codec};
        transceiver.setCodecPreferences([...chosen, ...all.filter(c => c.mimeType === 'video/rtx')]);
      }
    }
    this.found = [];
    const gathered = new Promise(done => pc.addEventListener('icecandidate', e => {
      if (e.candidate && e.candidate.candidate) this.found.push(e.candidate.candidate); else done();
    }));
    // With `told` nothing is gathered before the answer names the servers to gather with.
    const offer = o.told && await pc.createOffer();
    if (!offer) await pc.setLocalDescription();
    const bare = (offer || pc.localDescription).sdp;
    if (!o.trickle && !offer) await gathered;
    const answer = await fetch(o.url, {
      method: 'POST', body: offer || o.trickle ? bare.replace(/a=candidate:.*\r\n/g, '') : pc.localDescription.sdp,
      headers: {'Content-Type': 'application/sdp', Authorization: 'Bearer ' + o.key},
    });
    const text = await answer.text();
    if (answer.status !== 201) return {status: answer.status, text};
    this.session = new URL(answer.headers.get('Location'), o.url).href;
    this.etag = answer.headers.get('ETag');
    if (offer) {
      pc.setConfiguration({iceServers: servers(answer.headers.get('Link'))});
      await pc.setLocalDescription(offer);
    }
    await pc.setRemoteDescription({type: 'answer', sdp: text});
    let patched = null;
    if (o.trickle || offer) {
      await gathered;
      patched = (await this.patch(this.etag, this.fragment())).status;
    }
    return {status: answer.status, link: answer.headers.get('Link'), etag: this.etag, patched};
  },
  fragment() {
    const lines = this.pc.localDescription.sdp.split('\r\n');
    const line = start => lines.find(l => l.startsWith(start));
    return [line('a=ice-ufrag:'), line('a=ice-pwd:'), line('m='), line('a=mid:'), ...this.found.map(c => 'a=' + c),
      'a=end-of-candidates', ''].join('\r\n');
  },
  async patch(match, body) {
    return fetch(this.session, {method: 'PATCH', body,
      headers: {'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': match, Authorization: 'Bearer ' + this.key}});
  },
  async restartIce() {
    const pc = this.pc, old = pc.remoteDescription.sdp;
    this.found = [];
    const gathered = new Promise(done => pc.addEventListener('icecandidate', e => {
      if (e.candidate && e.candidate.candidate) this.found.push(e.candidate.candidate); else done();
    }));
    await pc.setLocalDescription(await pc.createOffer({iceRestart: true}));
    await gathered;
    const answer = await this.patch('*', this.fragment());
    const fragment = await answer.text();
    if (answer.status !== 200) return {status: answer.status, fragment};
    const value = name => fragment.match(new RegExp('a=' + name + ':(.*?)\r?\n'))[1];
    const candidates = fragment.split(/\r?\n/).filter(l => l.startsWith('a=candidate:')).join('\r\n');
    let first = true;
    const sdp = old.replace(/a=candidate:.*\r\n/g, '').replace(/a=end-of-candidates\r\n/g, '')
      .replace(/a=ice-ufrag:.*/g, 'a=ice-ufrag:' + value('ice-ufrag'))
      .replace(/a=ice-pwd:.*\r\n/g, l => {
        const more = first && candidates ? candidates + '\r\n' : '';
        first = false;
        return 'a=ice-pwd:' + value('ice-pwd') + '\r\n' + more;
      });
    await pc.setRemoteDescription({type: 'answer', sdp});
    const before = this.etag;
    this.etag = answer.headers.get('ETag');
    return {status: answer.status, changed: before !== this.etag, fragment};
  },
  // The addresses that a candidate would tell of now.
  async addresses() {
    const pc = new RTCPeerConnection(), found = [];
    pc.createDataChannel('');
    const gathered = new Promise(done => pc.addEventListener('icecandidate', e => {
      if (e.candidate && e.candidate.candidate) found.push(e.candidate.address); else done();
    }));
    await pc.setLocalDescription();
    await gathered;
    pc.close();
    return found;
  },
  async remove() {
    const done = await fetch(this.session, {method: 'DELETE', headers: {Authorization: 'Bearer ' + this.key}});
    this.pc.close();
    return done.status;
  },
  async stats() {
    const all = [...(await this.pc.getStats()).values()].filter(s => s.type === 'outbound-rtp' && s.kind === 'video');
    return {state: this.pc.connectionState, ice: this.pc.iceConnectionState,
      layers: all.map(s => ({rid: s.rid, svc: s.scalabilityMode, packets: s.packetsSent, width: s.frameWidth, encoder: s.encoderImplementation, target: s.targetBitrate}))};
  },
  codecs: () => [...new Set(RTCRtpSender.getCapabilities('video').codecs.map(c => c.mimeType))],
};
""" % {"bits": BITS, "blocks": BLOCKS}

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--autoplay-policy=no-user-gesture-required", "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
]


def chromium():
    """The browser's path, or None."""
    return next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)


class Browser(Program):
    """A browser, in a network of its own (see networks.py) where one is given; its pages are of the origin `camera_at`, and may
    use a camera, where that is given. `async with browser.page() as page:` is a page in it."""

    def __init__(self, directory, network=None, camera_at=None):
        self.network, self.place = network, f"{camera_at}/health" if camera_at else "about:blank"
        self.port, = free_ports(1)
        self.home = tempfile.mkdtemp(prefix="browser-", dir=directory)
        # Chromium looks for other ways than the one it has where a page may use a camera, as one that publishes mostly does.
        camera = [f"--unsafely-treat-insecure-origin-as-secure={camera_at}", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        flags = [*FLAGS, *(camera if camera_at else []), f"--remote-debugging-port={self.port}", f"--user-data-dir={self.home}", "about:blank"]
        # A home of its own: what a desktop left in the real one is none of its business.
        command = [chromium(), *flags]
        command = network.command(command) if network else command
        # A log of its own, too: another one's would say at once that it listens.
        super().__init__("browser", command, Path(f"{self.home}.log"), {**os.environ, "HOME": self.home})
        self.wait_log("DevTools listening on", 30)

    def page(self):
        return Page(self)


class Page:
    """A page that knows `whip` of PAGE."""

    def __init__(self, browser):
        loopback = browser.network.loopback if browser.network else "127.0.0.1"
        self.base, self.browser = f"http://{loopback}:{browser.port}", browser
        self.http = self.socket = self.target = None
        self.count = 0

    async def __aenter__(self):
        network = self.browser.network
        inside = aiohttp.TCPConnector(socket_factory=lambda info: network.socket(*info[:3])) if network else None
        self.http = aiohttp.ClientSession(connector=inside)
        async with self.http.put(f"{self.base}/json/new?{self.browser.place}") as answer:
            self.target = await answer.json(content_type=None)
        self.socket = await self.http.ws_connect(self.target["webSocketDebuggerUrl"], max_msg_size=0)
        while not await self.run(f"document.readyState === 'complete' && location.href === {json.dumps(self.browser.place)}"):
            await asyncio.sleep(0.02)
        await self.run(PAGE + "; window.whip = whip; true")
        return self

    async def __aexit__(self, *exc):
        await self.socket.close()
        async with self.http.get(f"{self.base}/json/close/{self.target['id']}"):
            pass
        await self.http.close()

    async def run(self, script, seconds=40):
        """The value of a script; a promise is waited for."""
        self.count += 1
        parameters = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        await self.socket.send_json({"id": self.count, "method": "Runtime.evaluate", "params": parameters})
        while True:
            message = json.loads((await asyncio.wait_for(self.socket.receive(), seconds)).data)
            if message.get("id") == self.count:
                break
        result = message["result"]
        if "exceptionDetails" in result:
            raise AssertionError(f"the page: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def start(self, url, key, **options):
        """Publishes; what the page got for an answer."""
        options = {"url": url, "key": key, "width": 640, "height": 360, "fps": 15, **options}
        return await self.run(f"whip.start({json.dumps(options)})")
