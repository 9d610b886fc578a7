//! DTLS (RFC 6347) of those who push to us, by OpenSSL: the engine's own has neither certificates with RSA keys nor handshake
//! messages in many small pieces, and GStreamer's webrtcbin sends both. Used by the receiver role; all other cryptography,
//! and the connection to the SFU, stay with the engine's library.
//!
//! Who gets here has shown a stream key and passed ICE's checks, so OpenSSL reads nothing from strangers; and nothing but the
//! handshake and close_notify, as media goes by SRTP.

mod pair;

pub use pair::Pair;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{
    Error as SslError, ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslStream, SslVerifyMode,
};
use openssl::x509::X509;
use std::collections::VecDeque;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, KeyingMaterial, ProtocolVersion,
    SrtpProfile,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

/// Elliptic-curve key exchange with authenticated encryption: what every WebRTC stack has (RFC 8827 §6.5).
const CIPHERS: &str = "ECDHE+AESGCM";
/// The shortest encrypted record of these: the explicit nonce and the tag (RFC 5288 §3). OpenSSL takes a shorter one for the end
/// of the connection, and anybody could send it.
const MIN_ENCRYPTED_RECORD: usize = 8 + 16;
/// SRTP protection (RFC 5764 §4.1.2, RFC 7714 §14.2), ours first: AES-GCM costs half of what the older one does.
const SRTP_PROFILES: &str = "SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80";
/// RFC 5764 §4.2.
const SRTP_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// The longest datagram of ours, if the engine names none: fits wherever IPv6 does, with headers of UDP and TURN.
const DEFAULT_MTU: usize = 1150;
/// When to retransmit a flight that is not answered (RFC 6347 §4.2.4.1 allows less than its second where the path is known: ICE
/// has just measured it, and browsers begin with 50 ms). FFmpeg ignores the first flight. Doubled each time, up to a second: small
/// devices begin their part seconds after ICE has found a path.
const INITIAL_RETRANSMIT: Duration = Duration::from_millis(100);
const MAX_RETRANSMIT: Duration = Duration::from_secs(1);
/// Retransmissions of a flight by the timer: as many as fit the time in which a session has to connect.
const MAX_RETRANSMITS: u32 = 13;
/// Retransmissions because the other side's flight comes again: as many as a client that doubles from 50 ms asks for.
const MAX_REQUESTED_RETRANSMITS: u32 = 16;
/// The longest plaintext record we could be sent that means anything: an alert, or data of a channel that we don't open.
const MAX_RECORD: usize = 2048;
/// The longest certificate that fits the engine's buffer. With an RSA key of 4096 bits they have 1,300 bytes.
const MAX_CERTIFICATE: usize = 2000;
/// When to look again while there is nothing to wait for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The engine's cryptography, with DTLS by OpenSSL.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { dtls_provider: &OpenSsl, ..from_feature_flags() })
}

#[derive(Debug)]
struct OpenSsl;

impl DtlsProvider for OpenSsl {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let other = |e: ErrorStack| CryptoError::Other(e.to_string());
        let context = context(cert).map_err(other)?;
        let mut ssl = Ssl::new(&context).map_err(other)?;
        ssl.set_mtu(mtu.unwrap_or(DEFAULT_MTU) as u32).map_err(other)?;
        Ok(Box::new(Dtls {
            ssl: Some(ssl),
            stream: None,
            state: State::Idle,
            active: false,
            now,
            retransmit_at: None,
            retransmits: 0,
            requested: 0,
            flight: Vec::new(),
            outputs: VecDeque::new(),
        }))
    }
}

fn context(cert: &DtlsCert) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::dtls())?;
    context.set_cipher_list(CIPHERS)?;
    context.set_tlsext_use_srtp(SRTP_PROFILES)?;
    context.set_certificate(X509::from_der(&cert.certificate)?.as_ref())?;
    context.set_private_key(PKey::private_key_from_der(&cert.private_key)?.as_ref())?;
    // Certificates are self-signed: the engine compares them with the offer's fingerprint (RFC 8122).
    context.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, _| true);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(SslMode::RELEASE_BUFFERS);
    context.set_options(
        SslOptions::NO_DTLSV1 | SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION,
    );
    Ok(context.build())
}

/// The datagrams between OpenSSL and us.
#[derive(Debug, Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl io::Read for Wire {
    /// One datagram in one go, as sockets do; the rest of what does not fit is lost.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl io::Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.outgoing.push(buffer.to_vec());
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before its role is known.
    Idle,
    Handshaking,
    Up,
    /// Closed, by either side, or failed.
    Over,
}

#[derive(Debug)]
enum Out {
    Packet(Vec<u8>),
    Connected,
    Certificate(Vec<u8>),
    Keys(Vec<u8>, SrtpProfile),
    Data(Vec<u8>),
    Close,
}

struct Dtls {
    /// Until its role is known.
    ssl: Option<Ssl>,
    /// From then on.
    stream: Option<SslStream<Wire>>,
    state: State,
    active: bool,
    now: Instant,
    /// When the flight is retransmitted.
    retransmit_at: Option<Instant>,
    retransmits: u32,
    /// Retransmissions that the other side asked for.
    requested: u32,
    /// The datagrams last sent in the handshake. Retransmitted as they are: whoever has one already drops it as a replay.
    flight: Vec<Vec<u8>>,
    outputs: VecDeque<Out>,
}

// The engine wants it to survive panics; nobody uses one that has panicked.
impl UnwindSafe for Dtls {}
impl RefUnwindSafe for Dtls {}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls").field("state", &self.state).field("active", &self.active).finish_non_exhaustive()
    }
}

impl Dtls {
    /// Goes on with the handshake as far as it gets.
    fn handshake(&mut self) -> Result<(), DtlsImplError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let outcome = stream.do_handshake();
        self.sent();
        match outcome {
            Ok(()) => self.up(),
            Err(e) if waits(&e) => Ok(()),
            Err(e) => Err(self.give_up(&e.to_string())),
        }
    }

    /// Sets what OpenSSL reads next.
    fn receive(&mut self, datagram: Option<Vec<u8>>) {
        if let Some(stream) = &mut self.stream {
            stream.get_mut().incoming = datagram;
        }
    }

    /// What OpenSSL has written goes out, and is kept for retransmission.
    fn sent(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let flight = std::mem::take(&mut stream.get_mut().outgoing);
        if flight.is_empty() {
            return;
        }
        if self.state == State::Handshaking {
            self.flight = flight;
            self.retransmits = 0;
            self.retransmit_at = Some(self.now + INITIAL_RETRANSMIT);
            self.send_flight();
        } else {
            self.outputs.extend(flight.into_iter().map(Out::Packet));
        }
    }

    /// Whether this datagram, to which OpenSSL had no answer, belongs to a flight that ours answers.
    fn asks_for_flight(&self, packet: &[u8]) -> bool {
        let plain_handshake = matches!(packet.first(), Some(20 | 22)) && packet.get(3..5) == Some(&[0, 0]);
        match self.state {
            State::Handshaking => !self.active && begins_hello(packet),
            // Anybody could send it once all is up, so not without end.
            State::Up => plain_handshake && self.requested < MAX_REQUESTED_RETRANSMITS,
            State::Idle | State::Over => false,
        }
    }

    fn send_flight(&mut self) {
        self.outputs.extend(self.flight.iter().cloned().map(Out::Packet));
    }

    fn retransmit(&mut self) {
        self.send_flight();
        self.retransmits += 1;
        let wait = (INITIAL_RETRANSMIT * 2u32.pow(self.retransmits)).min(MAX_RETRANSMIT);
        self.retransmit_at = (self.retransmits < MAX_RETRANSMITS).then(|| self.now + wait);
    }

    fn up(&mut self) -> Result<(), DtlsImplError> {
        let Some((certificate, profile, keys)) = self.stream.as_ref().and_then(srtp_keys) else {
            return Err(self.give_up("no profile of SRTP in common, or no certificate"));
        };
        if certificate.len() > MAX_CERTIFICATE {
            return Err(self.give_up("its certificate is too long"));
        }
        self.state = State::Up;
        self.retransmit_at = None;
        self.outputs.extend([Out::Connected, Out::Certificate(certificate), Out::Keys(keys, profile)]);
        Ok(())
    }

    /// Reads what comes after the handshake: close_notify, or the other side's last flight again, which OpenSSL answers.
    fn read(&mut self) -> Result<(), DtlsImplError> {
        let mut buffer = [0; MAX_RECORD];
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let outcome = stream.ssl_read(&mut buffer);
            self.sent();
            match outcome {
                Ok(length) => self.outputs.push_back(Out::Data(buffer[..length].to_vec())),
                Err(e) if e.code() == ErrorCode::ZERO_RETURN => {
                    self.state = State::Over;
                    self.outputs.push_back(Out::Close);
                    return Ok(());
                }
                Err(e) if waits(&e) => return Ok(()),
                Err(e) => return Err(self.give_up(&e.to_string())),
            }
        }
    }

    fn give_up(&mut self, why: &str) -> DtlsImplError {
        tracing::debug!(error = %why, "DTLS has failed");
        self.state = State::Over;
        self.retransmit_at = None;
        DtlsImplError::ConnectionClosed
    }
}

impl DtlsInstance for Dtls {
    fn set_active(&mut self, active: bool) {
        let Some(mut ssl) = self.ssl.take() else { return };
        self.active = active;
        if active {
            ssl.set_connect_state()
        } else {
            ssl.set_accept_state()
        }
        match SslStream::new(ssl, Wire::default()) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.state = State::Handshaking;
            }
            Err(e) => _ = self.give_up(&e.to_string()),
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        if too_short(packet) {
            return Ok(());
        }
        self.receive((!packet.is_empty()).then(|| packet.to_vec()));
        let before = self.outputs.len();
        let result = match self.state {
            State::Handshaking => self.handshake(),
            State::Up => self.read(),
            State::Idle | State::Over => Ok(()),
        };
        // The rest of one that was read in part is of no use.
        self.receive(None);
        // Their flight again means that ours got lost: browsers retransmit after 50 ms, long before OpenSSL would.
        if self.outputs.len() == before && self.asks_for_flight(packet) {
            self.requested += 1;
            self.send_flight();
        }
        result
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        // One that does not fit stays: the engine comes back with a larger buffer.
        if let Some(Out::Packet(data) | Out::Certificate(data) | Out::Data(data)) = self.outputs.front()
            && data.len() > buffer.len()
        {
            return DtlsOutput::BufferTooSmall { needed: data.len() };
        }
        match self.outputs.pop_front() {
            Some(Out::Packet(data)) => DtlsOutput::Packet(copied(&data, buffer)),
            Some(Out::Connected) => DtlsOutput::Connected,
            Some(Out::Certificate(data)) => DtlsOutput::PeerCert(copied(&data, buffer)),
            Some(Out::Keys(keys, profile)) => DtlsOutput::KeyingMaterial(KeyingMaterial::new(&keys), profile),
            Some(Out::Data(data)) => DtlsOutput::ApplicationData(copied(&data, buffer)),
            Some(Out::Close) => DtlsOutput::CloseNotify,
            None => DtlsOutput::Timeout(self.retransmit_at.unwrap_or(self.now + IDLE_TIMEOUT)),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        if self.state == State::Handshaking && self.retransmit_at.is_some_and(|at| at <= now) {
            self.retransmit();
        }
        Ok(())
    }

    fn send_application_data(&mut self, _: &[u8]) -> Result<usize, DtlsImplError> {
        // We offer no data channels.
        Ok(0)
    }

    fn is_active(&self) -> bool {
        self.active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        (self.state == State::Up).then_some(ProtocolVersion::DTLS1_2)
    }

    fn is_closing(&self) -> bool {
        self.state == State::Over && !self.outputs.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.state == State::Over && self.outputs.is_empty()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        if self.state == State::Up
            && let Some(stream) = &mut self.stream
        {
            // Sends close_notify; that of the other side is not waited for.
            if let Err(e) = stream.shutdown() {
                tracing::debug!(error = %e, "closing without close_notify");
            }
            self.sent();
        }
        self.state = State::Over;
        self.retransmit_at = None;
        Ok(())
    }
}

/// Copies what fits.
fn copied<'a>(data: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    let length = data.len().min(buffer.len());
    buffer[..length].copy_from_slice(&data[..length]);
    &buffer[..length]
}

/// Whether it only waits for the next datagram.
fn waits(error: &SslError) -> bool {
    matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

/// The other side's certificate (DER), and the profile and keys for SRTP (RFC 5764 §4.2).
fn srtp_keys(stream: &SslStream<Wire>) -> Option<(Vec<u8>, SrtpProfile, Vec<u8>)> {
    let ssl = stream.ssl();
    let certificate = ssl.peer_certificate()?.to_der().ok()?;
    let profile = match ssl.selected_srtp_profile()?.id() {
        SrtpProfileId::SRTP_AEAD_AES_128_GCM => SrtpProfile::AEAD_AES_128_GCM,
        SrtpProfileId::SRTP_AEAD_AES_256_GCM => SrtpProfile::AEAD_AES_256_GCM,
        SrtpProfileId::SRTP_AES128_CM_SHA1_80 => SrtpProfile::AES128_CM_SHA1_80,
        _ => return None,
    };
    let mut keys = vec![0; profile.keying_material_len()];
    ssl.export_keying_material(&mut keys, SRTP_LABEL, None).ok()?;
    Some((certificate, profile, keys))
}

/// Whether a datagram has an encrypted record that can't be one (RFC 6347 §4.1: type, version, epoch, number, length, body).
fn too_short(mut packet: &[u8]) -> bool {
    while let Some((&[_, _, _, e0, e1, _, _, _, _, _, _, l0, l1], rest)) = packet.split_first_chunk::<13>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [e0, e1] != [0, 0] && length < MIN_ENCRYPTED_RECORD {
            return true;
        }
        packet = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Whether a datagram begins with a plaintext ClientHello (RFC 6347 §4.1, §4.2.2: type 22, epoch 0; message type 1).
fn begins_hello(packet: &[u8]) -> bool {
    packet.first() == Some(&22) && packet.get(3..5) == Some(&[0, 0]) && packet.get(13) == Some(&1)
}

#[cfg(test)]
mod tests;
