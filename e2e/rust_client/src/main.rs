//! webrtc-rs as a WHIP client: sends the RTP that comes to two UDP ports until SIGINT, which deletes the session.
//!
//!   rust-client HOST:PORT PATH KEY PICTURE_PORT SOUND_PORT

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::register_default_interceptors;
use webrtc::api::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS, MediaEngine};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp_transceiver::RTCPFeedback;
use webrtc::rtp_transceiver::rtp_codec::{RTCRtpCodecCapability, RTCRtpCodecParameters, RTPCodecType};
use webrtc::track::track_local::TrackLocalWriter;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// One request, and the whole answer.
async fn ask(host: &str, method: &str, path: &str, key: &str, body: &str) -> Result<String, Fault> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{method} {}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}

fn h264() -> RTCRtpCodecCapability {
    let feedback = [("nack", ""), ("nack", "pli")]
        .map(|(kind, parameter)| RTCPFeedback { typ: kind.to_owned(), parameter: parameter.to_owned() });
    RTCRtpCodecCapability {
        mime_type: MIME_TYPE_H264.to_owned(),
        clock_rate: 90_000,
        sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
        rtcp_feedback: feedback.to_vec(),
        ..Default::default()
    }
}

fn opus() -> RTCRtpCodecCapability {
    RTCRtpCodecCapability {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        ..Default::default()
    }
}

/// Offers what is sent and nothing else: its defaults begin with VP8.
async fn peer() -> Result<RTCPeerConnection, Fault> {
    let mut media = MediaEngine::default();
    for (capability, payload_type, kind) in [(h264(), 102, RTPCodecType::Video), (opus(), 111, RTPCodecType::Audio)] {
        media.register_codec(RTCRtpCodecParameters { capability, payload_type, ..Default::default() }, kind)?;
    }
    let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
    let mut settings = SettingEngine::default();
    settings.set_include_loopback_candidate(true);
    settings.set_interface_filter(Box::new(|name| name == "lo"));
    let api = APIBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(interceptors)
        .with_setting_engine(settings)
        .build();
    Ok(api.new_peer_connection(RTCConfiguration::default()).await?)
}

/// Adds a track that sends what comes to `port`.
async fn add(peer: &RTCPeerConnection, codec: RTCRtpCodecCapability, name: &str, port: &str) -> Result<(), Fault> {
    let track = Arc::new(TrackLocalStaticRTP::new(codec, name.to_owned(), "rust".to_owned()));
    let sender = peer.add_track(track.clone()).await?;
    // Reading is what makes it answer requests for what was lost.
    tokio::spawn(async move { while sender.read_rtcp().await.is_ok() {} });
    let socket = UdpSocket::bind(format!("127.0.0.1:{port}")).await?;
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok(length) = socket.recv(&mut packet).await {
            // Nobody has agreed to take it before the connection is there.
            let _ = track.write(&packet[..length]).await;
        }
    });
    Ok(())
}

fn main() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, path, key, picture, sound] = &arguments[..] else { return Err("five arguments".into()) };
    let peer = peer().await?;
    peer.on_peer_connection_state_change(Box::new(|state| {
        println!("state {state}");
        Box::pin(async {})
    }));
    add(&peer, h264(), "video", picture).await?;
    add(&peer, opus(), "audio", sound).await?;
    let mut gathered = peer.gathering_complete_promise().await;
    peer.set_local_description(peer.create_offer(None).await?).await?;
    let _ = gathered.recv().await;
    let offer = peer.local_description().await.ok_or("no offer")?.sdp;
    println!("{offer}");
    let answer = ask(host, "POST", path, key, &offer).await?;
    let (head, sdp) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).ok_or("no session")?;
    println!("{sdp}");
    peer.set_remote_description(RTCSessionDescription::answer(sdp.to_owned())?).await?;
    tokio::signal::ctrl_c().await?;
    ask(host, "DELETE", location, key, "").await?;
    peer.close().await?;
    Ok(())
}
