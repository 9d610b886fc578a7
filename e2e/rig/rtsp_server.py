#!/usr/bin/python3
"""An RTSP server for the tests: GStreamer's own, by the system's Python. /live is a test picture and a tone.

/timed has pictures that carry their numbers (as in picture.py) and beeps (as in lips.py): number n is made, by the machine's
monotonic clock, at n / TIMED_FPS seconds (modulo NUMBERS). /reordered is the same with B-frames.

    rtsp_server.py PORT [USER PASSWORD [basic]] [called AUTHORITY…]

With a login it asks for it by digest, or as it is. `called` by such an authority (host:port), in each request's URL, it answers,
and by no other; and a digest has to be one of that very URL.
"""

import math
import struct
import sys
import threading
import time
import urllib.parse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

LAUNCH = (
    "( videotestsrc is-live=true pattern=smpte ! video/x-raw,width=320,height=180,framerate=30/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 "
    "audiotestsrc is-live=true wave=sine freq=330 volume=0.5 ! audio/x-raw,rate=48000,channels=1 ! audioconvert "
    "! avenc_aac ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)

# 640x360, of which the strip's rows are made as in picture.py, without numpy, which the system's Python may lack.
WIDTH, HEIGHT, TIMED_FPS, RATE = 640, 360, 30, 48000
BITS = 20
# They begin again at a whole second, or flash and beep would part: as bench_url reckons too.
NUMBERS = (1 << BITS) // TIMED_FPS * TIMED_FPS
TIMED, REORDERED = (
    f"( appsrc name=pictures is-live=true format=time caps=video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={TIMED_FPS}/1 "
    f"! x264enc name=encoder {order} key-int-max=30 bitrate=2000 ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 "
    f"appsrc name=sound is-live=true format=time caps=audio/x-raw,format=S16LE,rate={RATE},channels=1,layout=interleaved "
    "! audioconvert ! opusenc ! rtpopuspay name=pay1 pt=97 )"
    # Two B-frames between others, whose order by themselves is the only thing that holds pictures up.
    for order in ("tune=zerolatency speed-preset=ultrafast", "speed-preset=veryfast bframes=2 b-adapt=false rc-lookahead=0 mb-tree=false sliced-threads=true option-string=scenecut=0")
)


def picture(number):
    """An I420 picture with this number, black around its strip."""
    edges = [round(k * WIDTH / (BITS + 4)) for k in range(BITS + 4)]
    levels = [16, 235, *(235 if number >> i & 1 else 16 for i in range(BITS)), 16, 16]
    row = b"".join(bytes([level]) * (end - start) for level, start, end in zip(levels, edges, [*edges[1:], WIDTH]))
    rows = HEIGHT // 6 // 2 * 2
    above = (HEIGHT - rows) // 2
    black = bytes([16]) * WIDTH
    return black * above + row * rows + black * (HEIGHT - rows - above) + bytes([128]) * (WIDTH * HEIGHT // 2)


def unasked(_, info):
    return Gst.PadProbeReturn.DROP if info.get_query().type == Gst.QueryType.CAPS else Gst.PadProbeReturn.OK


def feed(media):
    """Makes pictures and sound for as long as they are taken."""
    top = media.get_element()
    # The payloader asks for the baseline profile, which has no B-frames, but takes any.
    top.get_by_name("encoder").get_static_pad("src").add_probe(Gst.PadProbeType.QUERY_DOWNSTREAM, unasked)
    pictures, sound = top.get_by_name("pictures"), top.get_by_name("sound")
    loud, hum = (
        struct.pack(f"<{RATE}h", *(int(v * 32767 * math.sin(2 * math.pi * f * i / RATE)) for i in range(RATE))) for v, f in ((0.5, 1000), (0.01, 200))
    )
    second = loud[: RATE // 10 * 2] + hum[RATE // 10 * 2 :]

    def push(source, data, made):
        at = int(made * Gst.SECOND) - top.get_base_time()
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = max(0, at)
        return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

    def pace(source, per_second, make, after):
        n = int(time.monotonic() * per_second) + 1
        while True:
            time.sleep(max(0.0, (n + after) / per_second - time.monotonic()))
            if top.get_base_time() and not push(source, make(n), n / per_second):
                return
            n += 1

    def piece(n):
        at = n % 50 * (RATE // 50) * 2
        return second[at : at + RATE // 50 * 2]

    # A piece of sound is there when its last sample has been.
    for job in ((pictures, TIMED_FPS, lambda n: picture(n % NUMBERS), 0), (sound, 50, piece, 1)):
        threading.Thread(target=pace, args=job, daemon=True).start()


class Called:
    """A server that knows by which names it is called."""

    def __init__(self, names):
        self.names = names

    def watch(self, _, client):
        for request in ("options", "describe", "setup", "play", "teardown", "get-parameter"):
            client.connect(f"pre-{request}-request", self.judge)

    def judge(self, _, context):
        _, _, url, _ = context.request.parse_request()
        authority = urllib.parse.urlsplit(url).netloc
        _, login = context.request.get_header(GstRtsp.RTSPHeaderField.AUTHORIZATION, 0)
        if authority not in self.names or (login and login.startswith("Digest") and f'uri="{url}"' not in login):
            print(f"refused: {url} {authority} {login}", flush=True)
            return GstRtsp.RTSPStatusCode.NOT_FOUND
        return GstRtsp.RTSPStatusCode.OK


def main():
    port, more = sys.argv[1], sys.argv[2:]
    login, names = (more[: more.index("called")], more[more.index("called") + 1 :]) if "called" in more else (more, [])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    if login:
        auth = GstRtspServer.RTSPAuth()
        basic = login[2:] == ["basic"]
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC if basic else GstRtsp.RTSPAuthMethod.DIGEST)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        if basic:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(login[0], login[1]), token)
        else:
            auth.add_digest(login[0], login[1], token)
        server.set_auth(auth)
        allowed = Gst.Structure.from_string("user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")[0]
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role_from_structure(allowed)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    for path, launch in (("/timed", TIMED), ("/reordered", REORDERED)):
        timed = GstRtspServer.RTSPMediaFactory()
        timed.set_launch(launch)
        timed.set_shared(True)
        timed.connect("media-configure", lambda _, media: feed(media))
        server.get_mount_points().add_factory(path, timed)
    if names:
        server.connect("client-connected", Called(names).watch)
    server.attach(None)
    GLib.MainLoop().run()


main()
