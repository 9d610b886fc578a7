//! Peer connections over real sockets on loopback, to an engine that stands in for the SFU.

use super::*;
use crate::framing::{Deframer, Framer};
use crate::{AudioLine, LayerLine, VideoLine};
use model::{EncodedVideo, MediaTime};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use str0m::change::SdpOffer;
use str0m::media::MediaData;
use str0m::net::{Protocol, Receive, TcpType};
use str0m::{Candidate, Input, Output, Rtc, RtcConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const WITHIN: Duration = Duration::from_secs(30);
const PICTURE: &[u8] =
    &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x84];

/// The receiving side: one socket, one task.
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

fn server(offer: &str, local: Candidate) -> (Rtc, String) {
    let mut rtc = RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true).build(Instant::now());
    let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer).unwrap()).unwrap().to_sdp_string();
    // As the SFU does: candidates are not in the answer, they follow.
    rtc.add_local_candidate(local);
    (rtc, answer)
}

/// Drains the engine: media goes to the test, datagrams come back to be sent.
fn turn(rtc: &mut Rtc, got: &mpsc::UnboundedSender<MediaData>) -> (Instant, Vec<(SocketAddr, Vec<u8>)>) {
    let mut out = Vec::new();
    loop {
        match rtc.poll_output().unwrap() {
            Output::Timeout(at) => return (at, out),
            Output::Transmit(t) => out.push((t.destination, t.contents.to_vec())),
            // The test may have seen enough.
            Output::Event(str0m::Event::MediaData(data)) => _ = got.send(data),
            Output::Event(_) => {}
        }
    }
}

async fn serve(mut rtc: Rtc, socket: Socket, got: mpsc::UnboundedSender<MediaData>) {
    match socket {
        Socket::Udp(socket) => {
            let to = socket.local_addr().unwrap();
            let mut buffer = [0; 2048];
            loop {
                let (at, out) = turn(&mut rtc, &got);
                for (remote, datagram) in out {
                    socket.send_to(&datagram, remote).await.unwrap();
                }
                tokio::select! {
                    read = socket.recv_from(&mut buffer) => {
                        let (len, from) = read.unwrap();
                        let receive = Receive::new(Protocol::Udp, from, to, &buffer[..len]).unwrap();
                        rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
                    }
                    () = tokio::time::sleep_until(at.into()) => rtc.handle_input(Input::Timeout(Instant::now())).unwrap(),
                }
            }
        }
        Socket::Tcp(listener) => {
            let (mut stream, from) = listener.accept().await.unwrap();
            let to = listener.local_addr().unwrap();
            let (mut incoming, mut buffer, mut datagram) = (Deframer::default(), [0; 4096], [0; 2048]);
            loop {
                let (at, out) = turn(&mut rtc, &got);
                for (_, d) in out {
                    let mut framed = Framer::default();
                    framed.push(&d);
                    stream.write_all(framed.waiting()).await.unwrap();
                }
                tokio::select! {
                    read = stream.read(&mut buffer) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(len) => {
                            incoming.extend(&buffer[..len]);
                            while let Some(len) = incoming.next(&mut datagram) {
                                let receive = Receive::new(Protocol::Tcp, from, to, &datagram[..len]).unwrap();
                                rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
                                let (_, out) = turn(&mut rtc, &got);
                                for (_, d) in out {
                                    let mut framed = Framer::default();
                                    framed.push(&d);
                                    stream.write_all(framed.waiting()).await.unwrap();
                                }
                            }
                        }
                    },
                    () = tokio::time::sleep_until(at.into()) => rtc.handle_input(Input::Timeout(Instant::now())).unwrap(),
                }
            }
        }
    }
}

async fn next(peer: &mut Peer) -> Event {
    tokio::time::timeout(WITHIN, peer.next()).await.expect("an event in time").unwrap()
}

/// Ends its task with it.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to a server at `local`, whose candidates are told as they are given here; then sends until both kinds arrive.
async fn media_arrives(ip: IpAddr, local: Candidate, socket: Socket, told: &[String]) -> Running {
    let config = Config { video: vec![EncodedVideo::H264.into()], ..Default::default() };
    let mut peer = Peer::new(&config, &[SocketAddr::new(ip, 9)], true).unwrap();
    let lines = Lines {
        video: Some(VideoLine {
            track_id: "v".into(),
            layers: ["q", "f"].map(|rid| LayerLine { rid, format: EncodedVideo::H264.into() }).to_vec(),
        }),
        audio: Some(AudioLine { track_id: "a".into() }),
    };
    let offer = peer.offer(&lines, false).unwrap().unwrap();
    assert!(offer.contains(&format!(" {ip} ")), "our own address is in the offer: {offer}");
    let (rtc, answer) = server(&offer, local);
    let (got_tx, mut got) = mpsc::unbounded_channel();
    let running = Running(tokio::spawn(serve(rtc, socket, got_tx)));
    peer.answer(&answer).unwrap();
    for line in told {
        peer.add_remote(line).unwrap();
    }
    while next(&mut peer).await != Event::Up {}
    let origin = Instant::now();
    let (mut pictures, mut sounds, mut n) = (0, 0, 0u32);
    while pictures < 10 || sounds < 10 {
        assert!(origin.elapsed() < WITHIN, "{pictures} pictures, {sounds} sounds");
        let pts = Duration::from_millis(20) * n;
        let frame = Frame { pts: MediaTime::from(pts), at: origin + pts, data: PICTURE, level: None };
        peer.write(Kind::Video, 1, &frame).unwrap();
        peer.write(Kind::Audio, 0, &Frame { data: &[0xfc, 1], level: Some(-20), ..frame }).unwrap();
        n += 1;
        // Driving the connection is all there is to wait for; events of no interest may come.
        let _ = tokio::time::timeout(Duration::from_millis(20), peer.next()).await;
        while let Ok(data) = got.try_recv() {
            if data.params.spec().codec.is_video() {
                assert_eq!((data.rid, &data.data[..]), (Some("f".into()), PICTURE));
                pictures += 1;
            } else {
                assert_eq!(data.ext_vals.audio_level, Some(-20));
                sounds += 1;
            }
        }
    }
    peer.close();
    running
}

fn passive(address: SocketAddr) -> Candidate {
    Candidate::builder().tcp().host(address).tcptype(TcpType::Passive).build().unwrap()
}

#[tokio::test]
async fn media_arrives_over_udp() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let Ok(socket) = UdpSocket::bind((ip, 0)).await else {
            assert!(ip.is_ipv6(), "only IPv6 may be missing");
            continue;
        };
        let local = Candidate::host(socket.local_addr().unwrap(), "udp").unwrap();
        let told = [local.to_sdp_string()];
        media_arrives(ip, local, Socket::Udp(socket), &told).await;
    }
}

#[tokio::test]
async fn media_arrives_over_tcp_where_udp_is_mute() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let local = passive(listener.local_addr().unwrap());
    // Somebody who takes datagrams and says nothing, as a firewall does.
    let mute = UdpSocket::bind((ip, 0)).await.unwrap();
    let told = [Candidate::host(mute.local_addr().unwrap(), "udp").unwrap().to_sdp_string(), local.to_sdp_string()];
    media_arrives(ip, local, Socket::Tcp(listener), &told).await;
}

#[tokio::test]
async fn loopback_stays_out_by_default() {
    let config = Config { video: vec![EncodedVideo::H264.into()], ..Default::default() };
    let mut peer = Peer::new(&config, &["127.0.0.1:9".parse().unwrap()], false).unwrap();
    let lines = Lines { video: None, audio: Some(AudioLine { track_id: "a".into() }) };
    let offer = peer.offer(&lines, false).unwrap().unwrap();
    assert!(!offer.contains("a=candidate"), "{offer}");
}

#[tokio::test]
async fn broken_tcp_connection_takes_media_down() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let local = passive(listener.local_addr().unwrap());
    let told = local.to_sdp_string();
    let config = Config { video: vec![EncodedVideo::H264.into()], ..Default::default() };
    let mut peer = Peer::new(&config, &[SocketAddr::new(ip, 9)], true).unwrap();
    let lines = Lines { video: None, audio: Some(AudioLine { track_id: "a".into() }) };
    let offer = peer.offer(&lines, false).unwrap().unwrap();
    let (rtc, answer) = server(&offer, local);
    let (got, _keep) = mpsc::unbounded_channel();
    let running = Running(tokio::spawn(serve(rtc, Socket::Tcp(listener), got)));
    peer.answer(&answer).unwrap();
    peer.add_remote(&told).unwrap();
    while next(&mut peer).await != Event::Up {}
    drop(running);
    while next(&mut peer).await != Event::Down {}
    assert!(!peer.is_up());
}
