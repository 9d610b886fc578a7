//! Writes `seeds/`: small inputs that reach deep into each target, made of what encoders send.

use bytes::{Buf, Bytes};
use fuzz::op;
use ipc::{Assignment, Batch, Message, demux, transcode};
use model::{
    AudioEncoding, Blame, EncodedVideo, Fault, Frame, Kind, MediaTime, Quality, SourceTracks, VideoCodec, VideoConfig,
};
use rtmp::amf::{Value, encode_all, object};
use std::path::Path;

const FILES: [(&str, &[u8]); 6] = [
    ("hevc-opus", include_bytes!("../../crates/rtmp/tests/data/hevc-opus.flv")),
    ("av1-ac3", include_bytes!("../../crates/rtmp/tests/data/av1-ac3.flv")),
    ("av1-eac3", include_bytes!("../../crates/rtmp/tests/data/av1-eac3.flv")),
    ("vp9-flac", include_bytes!("../../crates/rtmp/tests/data/vp9-flac.flv")),
    ("avc-mp3", include_bytes!("../../crates/rtmp/tests/data/avc-mp3.flv")),
    ("multitrack", include_bytes!("../../crates/rtmp/tests/data/multitrack.flv")),
];

/// Bytes of a tag that are kept: headers and configurations are at the front.
const KEPT: usize = 150;

/// The first tags of a file: type, timestamp, body.
fn tags(file: &[u8]) -> Vec<(u8, u32, &[u8])> {
    let mut rest = &file[13..];
    let mut tags = Vec::new();
    while tags.len() < 16 && rest.len() > 11 {
        let size = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let time = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        tags.push((rest[0], time, &rest[11..11 + size]));
        rest = &rest[11 + size + 4..];
    }
    tags
}

/// A message in chunks of 128 with a full header in front.
fn message(id: u8, kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, 1, 0, 0, 0]);
    let extended = if time >= 0xff_ffff { time.to_be_bytes().to_vec() } else { Vec::new() };
    bytes.extend(&extended);
    for (i, chunk) in body.chunks(128).enumerate() {
        if i > 0 {
            bytes.push(0xc0 | id);
            bytes.extend(&extended);
        }
        bytes.extend(chunk);
    }
    bytes
}

fn connect() -> Vec<Value> {
    let codecs = Value::Array(["hvc1", "av01"].map(Value::from).into());
    let properties = object([("app", "live".into()), ("flashVer", "FMLE/3.0".into()), ("fourCcList", codecs)]);
    vec!["connect".into(), 1.0.into(), properties]
}

fn publish() -> Vec<Value> {
    vec!["publish".into(), 5.0.into(), Value::Null, "KEY".into(), "live".into()]
}

/// Operations that bring these bytes in.
fn receive(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(255).flat_map(|c| [&[op::RECEIVE, c.len() as u8][..], c].concat()).collect()
}

/// A connection that publishes, then these bytes.
fn published(bytes: &[u8]) -> Vec<u8> {
    let commands = [connect(), publish()].map(|c| message(3, 20, 0, &encode_all(&c))).concat();
    [&[op::GREET, 0][..], &receive(&commands), &[op::ACCEPT, 0], &receive(bytes), &[op::WAIT, 40, op::WAIT, 40]]
        .concat()
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    std::fs::create_dir_all(&directory).expect("seeds can be written");
    std::fs::write(directory.join(name), &bytes[..bytes.len().min(4000)]).expect("seeds can be written");
}

fn main() {
    connections();
    for (name, file) in FILES {
        let bodies: Vec<u8> = tags(file)
            .iter()
            .flat_map(|(_, _, body)| {
                let body = &body[..body.len().min(KEPT)];
                [&(body.len() as u16).to_be_bytes()[..], body].concat()
            })
            .collect();
        write("flv_tags", name, &bodies);
        write("enhanced_tags", name, &bodies);
        let metadata = tags(file).iter().find(|t| t.0 == 18).map(|t| t.2.to_vec()).unwrap_or_default();
        write("amf", name, &metadata);
    }
    write("amf", "connect", &encode_all(&connect()));
    configurations();
    messages();
    machines();
    proxies();
    headers();
    secured_sound();
    rtp_headers();
    turn();
}

/// A handshake with all that can happen to it, and redundant sound with gaps.
fn secured_sound() {
    // To the client and to the server by turns, as `dtls_handshake` numbers it.
    let turns = |what: u8, times: usize| [what << 1 | 1, 40, what << 1, 40].repeat(times);
    write("dtls_handshake", "whole", &turns(0, 12));
    write("dtls_handshake", "lost", &[turns(0, 2), turns(2, 1), turns(7, 3), turns(0, 12)].concat());
    write("dtls_handshake", "twice-and-turned", &[turns(3, 6), turns(4, 3), turns(0, 14)].concat());
    let alert = [&[6 << 1 | 1, 15][..], &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40]].concat();
    write("dtls_handshake", "injected", &[turns(0, 3), alert.clone(), turns(0, 12), alert].concat());
    write("dtls_handshake", "changed", &[turns(0, 4), turns(5, 2), turns(7, 2), turns(0, 12)].concat());
    let packet = |further: u8, later: u8, payload: &[u8]| [&[further, later, payload.len() as u8], payload].concat();
    let ours: Vec<u8> = (0..12).flat_map(|n| packet(1 + n % 3, 1 + n % 3, &[n; 129])).collect();
    write("redundant_audio", "ours", &ours);
    let theirs = packet(2, 2, &[0x80 | 111, 0x0f, 0x00, 2, 111, 7, 8, 9]);
    write("redundant_audio", "theirs", &[packet(1, 1, &[111, 1]), theirs.clone(), theirs].concat());
}

/// Headers of RTP packets with extensions in both forms.
fn rtp_headers() {
    let fixed = [0x91, 0x80 | 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 9, 9];
    let one_byte = [0xbe, 0xde, 0, 2, 0x10, 7, 0, 0x52, b'a', b'u', b'd', 0, 1, 2];
    let two_bytes = [0x10, 0, 0, 2, 16, 1, 7, 0, 200, 0, 0, 0, 1];
    write("rtp_headers", "one-byte", &[&fixed[..], &one_byte].concat());
    write("rtp_headers", "two-bytes", &[&fixed[..], &two_bytes].concat());
}

/// Requests of WHIP clients: a path, `Authorization`, `If-Match`, `Content-Type`.
fn headers() {
    for (name, lines) in [
        ("offer", ["/w", "Bearer KEY", "", "application/sdp"]),
        ("offer-in-path", ["/live/eu/KEY", "", "", "application/sdp; charset=utf-8"]),
        ("trickle", ["/w/KEY/WH_abcDEF123456", "KEY", "\"tag\", W/\"other\"", "application/trickle-ice-sdpfrag"]),
        ("slashes", ["/live//eu/KEY//", "Bearer\tKEY", "*", "application/sdp"]),
        ("restart", ["/w/KEY/WH_abcDEF123456", "Basic eDp5", "*", "application/trickle-ice-sdpfrag"]),
    ] {
        write("whip_headers", name, lines.join("\n").as_bytes());
    }
}

/// What load balancers say.
fn proxies() {
    write("proxy_headers", "line", b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 1935\r\n");
    write("proxy_headers", "line6", b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 1935\r\n");
    write("proxy_headers", "binary", &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 7, 0x8f]);
    write("proxy_headers", "binary6", &[&[0x21, 0x21, 0, 36][..], &[0x20; 36]].concat());
    write("proxy_headers", "list", b"203.0.113.9, 192.0.2.7:4711, 10.0.0.2");
    write("proxy_headers", "forwarded", b"for=\"[2001:db8:cafe::17]:4711\";proto=https, for=10.0.0.2;by=_x");
}

fn machines() {
    use psrpc::envelope::{ClaimRequest, ClaimResponse, Envelope, Request, Response};
    let (request_id, server_id) = ("REQ_1".to_owned(), "SRV_1".to_owned());
    let body = Bytes::from_static(b"\x0a\x04IN_1");
    let request = Request {
        request_id: request_id.clone(),
        client_id: "CLI_1".into(),
        sent_at: 1,
        expiry: 3_000_000_000,
        multi: false,
        request: None,
        metadata: [("trace".to_owned(), "x".to_owned())].into(),
        raw_request: body.clone(),
    };
    let response = Response {
        request_id: request_id.clone(),
        server_id: server_id.clone(),
        sent_at: 2,
        response: None,
        error: "no".into(),
        code: "not_found".into(),
        raw_response: body,
    };
    let bid = ClaimRequest { request_id: request_id.clone(), server_id: server_id.clone(), affinity: 0.5 };
    for (name, envelope) in [
        ("request", Envelope::Request(request)),
        ("response", Envelope::Response(response)),
        ("bid", Envelope::ClaimRequest(bid)),
        ("choice", Envelope::ClaimResponse(ClaimResponse { request_id, server_id })),
    ] {
        write("psrpc_envelope", name, &envelope.encode());
    }
    // What happens, as `session_life` numbers it, each a tenth of a second after the one before.
    let life = |what: &[u8]| [&[0][..], &what.iter().flat_map(|w| [*w, 1]).collect::<Vec<_>>()].concat();
    // Operations of `recovery`, each with how much: two sessions start, one instance is killed; one is held; Redis is away, forgets; one
    // drains, and another answers in each way.
    write("recovery", "killed", &[0, 0, 0, 0x11, 8, 10, 2, 0, 8, 60]);
    write("recovery", "held", &[0, 0, 8, 10, 0x03, 90, 8, 60, 0x10, 0, 8, 90]);
    write("recovery", "redis", &[0, 0, 0x11, 1, 4, 70, 8, 10, 1, 0, 6, 0, 8, 30, 5, 50, 0x11, 0]);
    write("recovery", "clocks", &[7, 200, 0, 0, 8, 5, 2, 0, 7, 10, 0x10, 0, 8, 5, 0x03, 40, 0x20, 0, 8, 90]);
    let drains = (0..6).flat_map(|how| [0, 0, 8, 3, 0x0a, how, 8, 40, 2, how % 2, 8, 60]);
    write("recovery", "drains", &drains.collect::<Vec<u8>>());
    write("session_life", "push", &life(&[0x60, 20, 0x94, 1, 0x81, 4, 20, 0x94, 5, 9, 11]));
    write("session_life", "crashes", &life(&[0x60, 20, 1, 4, 7, 7, 20, 7, 11]));
    write("session_life", "unusable", &life(&[0x60, 2, 0x82, 3, 1, 4, 10, 11]));
    write("session_life", "deleted", &life(&[0x60, 20, 1, 4, 13, 5, 11]));
    let frame = |flags: u8, wait: u8, time: i32| [&[flags, wait][..], &time.to_be_bytes()].concat();
    let steady: Vec<u8> = (0..40).flat_map(|i| [frame(0, 20, i * 40), frame(1, 20, i * 40 + 10)].concat()).collect();
    write("ingest_clock", "steady", &steady);
    write(
        "ingest_clock",
        "jumps",
        &[&steady[..120], &frame(0x18, 5, 9), &steady, &frame(0x1a, 5, -9), &steady[..60]].concat(),
    );
    let burst: Vec<u8> = (0..60).flat_map(|i| frame(0, u8::from(i == 20) * 250, i * 40)).collect();
    write(
        "ingest_clock",
        "stall",
        &burst.iter().enumerate().map(|(i, b)| if i == 120 { b | 4 } else { *b }).collect::<Vec<_>>(),
    );
}

fn connections() {
    for (name, file) in FILES {
        let stream: Vec<u8> = tags(file)
            .iter()
            .flat_map(|(kind, time, body)| {
                let body = &body[..body.len().min(KEPT)];
                message(if *kind == 8 { 4 } else { 6 }, *kind, *time, body)
            })
            .collect();
        write("rtmp_connection", name, &published(&stream));
        write("rtmp_chunks", name, &[&[7][..], &stream].concat());
    }
    let call = |name: &str| message(3, 20, 0, &encode_all(&[name.into(), 2.0.into(), Value::Null, "KEY".into()]));
    let calls: Vec<u8> =
        ["releaseStream", "FCPublish", "createStream", "_checkbw", "getStreamLength"].map(call).concat();
    let goodbye = ["FCUnpublish", "deleteStream"].map(call).concat();
    let start = receive(&[message(3, 20, 0, &encode_all(&connect())), calls].concat());
    let end = receive(&[message(3, 20, 0, &encode_all(&publish())), goodbye].concat());
    write("rtmp_connection", "commands", &[&[op::GREET, 0][..], &start, &end].concat());
    let play = message(3, 20, 0, &encode_all(&["play".into(), 3.0.into(), Value::Null, "KEY".into()]));
    let play = [message(3, 20, 0, &encode_all(&connect())), play].concat();
    write("rtmp_connection", "play", &[&[op::GREET, 0][..], &receive(&play)].concat());
    let control = [
        message(2, 1, 0, &4096u32.to_be_bytes()),
        message(2, 5, 0, &1000u32.to_be_bytes()),
        message(2, 4, 0, &[0, 6, 0, 0, 0, 9]),
        message(2, 2, 0, &6u32.to_be_bytes()),
        message(6, 9, 0x0100_0000, &[0x12; 300]),
        vec![0x46, 0, 0, 20, 0, 1, 44, 9],
    ]
    .concat();
    write("rtmp_connection", "control", &published(&control));
    write("rtmp_chunks", "control", &[&[3][..], &control].concat());
    let tag = [&[9, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 0x12, 0, 0, 0x84, 3, 0x11, 0, 0, 0, 17][..]].concat();
    write("rtmp_connection", "aggregate", &published(&message(6, 22, 9, &tag.repeat(3))));
}

fn configurations() {
    let body = |file: usize, kind: u8, skip: usize| {
        tags(FILES[file].1)
            .iter()
            .find(|t| t.0 == kind && t.2.len() > skip + 4)
            .map(|t| t.2[skip..].to_vec())
            .unwrap_or_default()
    };
    write("avc_config", "avcc", &body(4, 9, 5));
    write("hevc_config", "hvcc", &body(0, 9, 5));
    write("av1_config", "svt", &body(1, 9, 5));
    write("av1_config", "libaom", &body(2, 9, 5));
    write("audio_configs", "opus", &body(0, 8, 5));
    write("audio_configs", "flac", &body(3, 8, 5));
    write("audio_configs", "mp3", &body(4, 8, 1)[..40]);
    write("audio_configs", "aac", &[0x12, 0x10, 0x56, 0xe5, 0]);
    write("audio_configs", "ac3", &[0x0b, 0x77, 0xb7, 0x92, 0x08, 0x40, 0xeb, 0xf8]);
    let sps = [
        0x67, 0x64, 0, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x04, 0x4f, 0xde, 0x02, 0x20, 0, 0, 3, 0, 0x20, 0, 0, 6, 0x43,
        0xe2, 0xc5, 0xb2, 0xc0,
    ];
    write("avc_config", "sps", &sps);
}

fn messages() {
    let frame = Frame {
        kind: Kind::Video,
        pts: MediaTime::from_millis(80),
        dts: MediaTime::from_millis(40),
        key: true,
        data: Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88]),
    };
    let job = transcode::Job {
        video_codec: EncodedVideo::H264,
        max_frame_rate: 30.0,
        audio: AudioEncoding { channels: 2, bitrate: 96_000, dtx: true },
    };
    let layers = model::VideoEncoding::default_layers();
    assert_eq!(layers.first().map(|l| l.quality), Some(Quality::Low));
    let config = VideoConfig::new(VideoCodec::H264, Bytes::from_static(&[1, 66]), Some((64, 48)));
    let pull = demux::Job {
        source: demux::Source::Url("https://example.com/live.m3u8".into()),
        guard: model::PullGuard::default(),
        limits: model::PullLimits::default(),
        largest: (1280, 720),
        from: None,
        live_only: true,
    };
    seed("assignments", 5, &[Assignment::from(job), Assignment::from(pull)]);
    let commands = [
        transcode::Command::VideoConfig(config.clone()),
        transcode::Command::Frame(frame.clone()),
        transcode::Command::Layers(layers),
        transcode::Command::Wanted { layer: 1, wanted: false },
        transcode::Command::ShowFrom(Kind::Audio, MediaTime::ZERO),
        transcode::Command::KeyFrame { layer: 0 },
        transcode::Command::Repeat(MediaTime::ZERO),
        transcode::Command::Finish,
    ];
    seed("transcode-commands", 5, &commands);
    let fault = Fault::transient(Blame::Us, "no decoder");
    let events = [
        transcode::Event::VideoFormat { width: 1280, height: 720, frame_rate: Some(25.0) },
        transcode::Event::AudioFormat { sample_rate: 48_000, channels: 2 },
        transcode::Event::AccessUnit {
            layer: 0,
            pts: MediaTime::ZERO,
            key: true,
            data: Bytes::from_static(&[0, 0, 1, 0x65]),
        },
        transcode::Event::AudioPacket { pts: MediaTime::ZERO, level: -20, data: Bytes::from_static(&[0xfc]) },
        transcode::Event::Unusable { kind: Kind::Audio, fault: fault.clone() },
        transcode::Event::Failed(fault.clone()),
        transcode::Event::Finished,
    ];
    seed("transcode-events", 9, &events);
    seed("demux-commands", 9, &[demux::Command::Bytes(Bytes::from_static(&[0x47; 188])), demux::Command::End]);
    let events = [
        demux::Event::Announced(SourceTracks { video: true, audio: true }),
        demux::Event::VideoConfig(config),
        demux::Event::Frame(frame),
        demux::Event::Splice(Some(7)),
        demux::Event::Portable(true),
        demux::Event::Failed(fault),
        demux::Event::Finished,
    ];
    seed("demux-events", 9, &events);
}

/// Messages of one kind, to be cut into pieces of `cut` bytes.
fn seed<M: Message>(name: &str, cut: u8, messages: &[M]) {
    let mut batch = Batch::default();
    for message in messages {
        batch.push(message).expect("short");
        batch.push_heartbeat();
    }
    let mut bytes = vec![cut];
    bytes.extend(batch.copy_to_bytes(batch.remaining()));
    write("ipc_messages", name, &bytes);
}

/// An address at a TURN server, by datagrams and by a stream: asked for, used with and without a channel, and on a bad network.
fn turn() {
    // As `turn_messages` numbers them: the server's messages pass while time does; then both sides send.
    let open = [0, 0, 9, 5].repeat(6);
    let talk = [8, 9, 9, 5, 0, 0, 8 + 130, 7, 9, 5, 0, 0, 9, 5, 0, 0].repeat(3);
    for (carrier, name) in [(0, "datagrams"), (1, "stream")] {
        write("turn_messages", name, &[&[carrier][..], &open, &talk].concat());
        let bad = [4, 0, 5, 0, 6, 21, 3, 0, 0, 0, 9, 60, 7, 4, 0x40, 0, 0, 1].repeat(2);
        write("turn_messages", &format!("{name}-changed"), &[&[carrier][..], &open, &bad, &talk].concat());
    }
}
