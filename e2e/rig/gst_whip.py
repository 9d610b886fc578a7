#!/usr/bin/python3
"""GStreamer's webrtcbin as a WHIP client, by the system's Python: a test picture and a tone, until SIGINT deletes the session.

    gst_whip.py URL KEY CODEC [tcp]

With `tcp` it knows no UDP. Its certificate has an RSA key, and its handshake comes in small pieces.
"""

import signal
import sys
import threading
import urllib.request
from urllib.parse import urljoin

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODERS = {
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=400 ! video/x-h264,profile=constrained-baseline ! "
            "rtph264pay config-interval=-1 aggregate-mode=zero-latency",
    # Parameter sets and pictures in aggregation packets, larger ones in fragments (RFC 7798 §4.4).
    # Closed groups: the payloader repeats parameter sets before IDR pictures only, and LiveKit tells key pictures by those sets.
    "H265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=400 option-string=open-gop=0 ! "
            "rtph265pay config-interval=-1 aggregate-mode=zero-latency",
    # Open groups: pictures of the last one lead the next key picture (RASL), which is no IDR, and parameter sets come once.
    "H265-open": "x265enc speed-preset=ultrafast key-int-max=15 bitrate=400 option-string=open-gop=1:bframes=2:b-adapt=0:rc-lookahead=4 "
                 "name=encoder ! rtph265pay config-interval=0 aggregate-mode=zero-latency",
    "VP8": "vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=400000 ! rtpvp8pay picture-id-mode=15-bit",
}
PIPELINE = """
webrtcbin name=bin bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! {encoder} !
  application/x-rtp,media=video,encoding-name={codec},payload=96 ! bin.
audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay !
  application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! bin.
"""


def main(url, key, codec, transport="udp"):
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE.format(encoder=ENCODERS[codec], codec=codec.removesuffix("-open")))
    if codec.endswith("-open"):
        # Or a viewer's wish would make an IDR picture.
        wishes = Gst.PadProbeType.EVENT_UPSTREAM
        pipeline.get_by_name("encoder").get_static_pad("src").add_probe(wishes, lambda *_: Gst.PadProbeReturn.DROP)
    peer, loop, session = pipeline.get_by_name("bin"), GLib.MainLoop(), []
    ice = peer.get_property("ice-agent")
    ice.emit("add-local-ip-address", "127.0.0.1")  # libnice leaves loopback out; here is nothing else
    if transport == "tcp":
        ice.get_property("agent").set_property("ice-udp", False)

    def send(method, where, body=None):
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {key}"}
        return urllib.request.urlopen(urllib.request.Request(where, body, headers, method=method), timeout=15)

    def gathered(*_):
        if peer.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE or session:
            return
        session.append(None)
        description = peer.get_property("local-description")
        threading.Thread(target=publish, args=(description.sdp.as_text(),), daemon=True).start()

    def publish(offer):
        with send("POST", url, offer.encode()) as answer:
            print("answered", answer.status, flush=True)
            session[0] = urljoin(url, answer.headers["Location"])
            text = answer.read()
        _, sdp = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(text, sdp)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        peer.emit("set-remote-description", description, Gst.Promise.new())

    def offered(promise, *_):
        reply = promise.get_reply()  # a name of its own: the offer lives no longer than this
        peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def negotiate(*_):
        index = 0
        while (transceiver := peer.emit("get-transceiver", index)) is not None:
            # GStreamer would offer to receive as well.
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
            index += 1
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(offered, None))

    def end():
        if session and session[0]:
            with send("DELETE", session[0]) as answer:
                print("deleted", answer.status, flush=True)
        loop.quit()

    def on_message(_, message):
        if message.type == Gst.MessageType.ERROR:
            print("error", message.parse_error(), flush=True)
            loop.quit()

    peer.connect("on-negotiation-needed", negotiate)
    peer.connect("notify::ice-gathering-state", gathered)
    peer.connect("notify::connection-state", lambda *_: print("state", peer.get_property("connection-state").value_nick, flush=True))
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, end)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)


main(*sys.argv[1:])
