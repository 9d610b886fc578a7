"""GStreamer's webrtcbin as a WHIP client: `gst_whip.py URL KEY CODEC`. Runs until its standard input closes, then deletes its
session. A program of its own, for the Python that has the system's GObject bindings; prints what happens."""

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
    "VP8": "vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=400000 ! rtpvp8pay picture-id-mode=15-bit",
    "VP9": "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=30 target-bitrate=400000 ! rtpvp9pay picture-id-mode=15-bit",
}

PIPELINE = """
webrtcbin name=bin bundle-policy=max-bundle
videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! {encoder} !
  application/x-rtp,media=video,encoding-name={codec},payload=96 ! bin.
audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay !
  application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! bin.
"""


def main(url, key, codec):
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE.format(encoder=ENCODERS[codec], codec=codec))
    peer, loop, session = pipeline.get_by_name("bin"), GLib.MainLoop(), []

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
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(offered, None))

    def watch_input():
        sys.stdin.read()
        if session and session[0]:
            with send("DELETE", session[0]) as answer:
                print("deleted", answer.status, flush=True)
        GLib.idle_add(loop.quit)

    def on_message(_, message):
        if message.type == Gst.MessageType.ERROR:
            print("error", message.parse_error(), flush=True)
            loop.quit()

    # Every direction is ours: GStreamer would offer to receive as well.
    def sendonly(*_):
        index = 0
        while (transceiver := peer.emit("get-transceiver", index)) is not None:
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
            index += 1

    # By itself it uses no loopback address; here is nothing else.
    agent = peer.get_property("ice-agent")  # a name of its own: the bindings would let go of it altogether
    agent.emit("add-local-ip-address", "127.0.0.1")
    peer.connect("on-negotiation-needed", lambda *_: (sendonly(), negotiate()))
    peer.connect("notify::ice-gathering-state", gathered)
    peer.connect("notify::connection-state", lambda *_: print("state", peer.get_property("connection-state").value_nick, flush=True))
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    pipeline.set_state(Gst.State.PLAYING)
    threading.Thread(target=watch_input, daemon=True).start()
    loop.run()
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
