//! An offer of somebody who wants to send to us (WHIP): read, judged, and written anew with only what we take, so that no
//! stranger's line reaches the engine as it came. Pure.

mod choose;
mod read;

pub(crate) use read::{candidates, credentials};

use crate::engine::with_sound;
use crate::{Accept, Refusal};
use model::VideoFormat;
use std::fmt::Write as _;

/// Bytes of an offer at the most. Browsers with all their codecs write 10 kB.
pub const MAX_OFFER: usize = 64 << 10;
/// Media lines at the most; two can be used.
const MAX_SECTIONS: usize = 32;
/// Candidates that are kept; a sender with ten addresses, both protocols and both families has fewer.
pub(crate) const MAX_CANDIDATES: usize = 64;
/// Simulcast layers at the most: LiveKit has three qualities.
pub(crate) const MAX_LAYERS: usize = 3;

/// What we take of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The sender's ICE user fragment.
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: String,
    pub(crate) setup: String,
    pub(crate) ice_lite: bool,
    pub(crate) candidates: Vec<String>,
    pub(crate) audio: Option<Audio>,
    pub(crate) video: Option<Video>,
    /// All media lines, in order.
    pub(crate) sections: Vec<Section>,
}

/// A media line, as far as an answer must repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// The words of its `m=` line after the port.
    pub(crate) kind: String,
    pub(crate) tail: String,
    pub(crate) mid: String,
    pub(crate) taken: bool,
}

/// What belongs to either kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) mid: String,
    pub(crate) pt: u8,
    pub(crate) nack: bool,
    pub(crate) transport_cc: bool,
    /// Header extensions by number; only those that somebody here reads.
    pub(crate) extensions: Vec<(u8, &'static str)>,
    /// The stream's SSRC, and that of its retransmissions.
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx_ssrc: Option<u32>,
}

/// The sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audio {
    pub(crate) common: Common,
    pub(crate) stereo: bool,
    pub(crate) dtx: bool,
    pub(crate) fec: bool,
    /// The payload type of redundant packets (RFC 2198) of it.
    pub(crate) red: Option<u8>,
}

/// The picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Video {
    pub(crate) common: Common,
    pub(crate) format: VideoFormat,
    pub(crate) rtx: Option<u8>,
    pub(crate) pli: bool,
    pub(crate) fir: bool,
    pub(crate) remb: bool,
    /// The layers' RTP stream ids in the order of `a=simulcast`; empty for a single stream.
    pub(crate) rids: Vec<String>,
}

impl Video {
    /// Whether the sender is to be told how much it may send (goog-remb), as it does not find out by itself (transport-cc).
    pub(crate) fn is_told_a_rate(&self) -> bool {
        let extensions = &self.common.extensions;
        self.remb && !(self.common.transport_cc && extensions.iter().any(|(_, uri)| uri.contains("transport-wide-cc")))
    }
}

impl Offer {
    /// Reads an offer and chooses what to take of it.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], [`Refusal::Unacceptable`].
    pub fn read(sdp: &str, accept: &Accept) -> Result<Self, Refusal> {
        choose::choose(&read::Sdp::read(sdp)?, accept)
    }

    /// How the picture will be coded, if there is one.
    pub fn video_format(&self) -> Option<&VideoFormat> {
        self.video.as_ref().map(|video| &video.format)
    }

    /// The offer in our own words, for the engine.
    pub(crate) fn write(&self) -> String {
        let mut s = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        let mids: Vec<_> = self.sections.iter().filter(|s| s.taken).map(|s| s.mid.as_str()).collect();
        let _ = write!(s, "a=group:BUNDLE {}\r\n", mids.join(" "));
        if self.ice_lite {
            s.push_str("a=ice-lite\r\n");
        }
        let mut first = true;
        for section in self.sections.iter().filter(|s| s.taken) {
            match (&self.audio, &self.video) {
                (Some(audio), _) if audio.common.mid == section.mid => self.write_audio(&mut s, audio, first),
                (_, Some(video)) if video.common.mid == section.mid => self.write_video(&mut s, video, first),
                _ => {}
            }
            first = false;
        }
        s
    }

    fn write_audio(&self, s: &mut String, audio: &Audio, first: bool) {
        let pt = audio.common.pt;
        let red = audio.red.map(|r| format!(" {r}")).unwrap_or_default();
        let _ = write!(s, "m=audio 9 UDP/TLS/RTP/SAVPF {pt}{red}\r\n");
        self.write_transport(s, &audio.common, first);
        let _ = write!(s, "a=rtpmap:{pt} opus/48000/2\r\n");
        let mut parameters = vec!["minptime=10"];
        parameters.extend(audio.fec.then_some("useinbandfec=1"));
        parameters.extend(audio.stereo.then_some("stereo=1;sprop-stereo=1"));
        parameters.extend(audio.dtx.then_some("usedtx=1"));
        let _ = write!(s, "a=fmtp:{pt} {}\r\n", parameters.join(";"));
        if let Some(red) = audio.red {
            let _ = write!(s, "a=rtpmap:{red} red/48000/2\r\na=fmtp:{red} {pt}/{pt}\r\n");
        }
        write_feedback(s, &audio.common, &[]);
        write_ssrcs(s, &audio.common);
    }

    fn write_video(&self, s: &mut String, video: &Video, first: bool) {
        let pt = video.common.pt;
        let rtx = video.rtx.map(|r| format!(" {r}")).unwrap_or_default();
        let _ = write!(s, "m=video 9 UDP/TLS/RTP/SAVPF {pt}{rtx}\r\n");
        self.write_transport(s, &video.common, first);
        let _ = write!(s, "a=rtpmap:{pt} {}/90000\r\n", video.format.codec.rtp_name());
        if !video.format.parameters.is_empty() {
            let _ = write!(s, "a=fmtp:{pt} {}\r\n", video.format.parameters);
        }
        if let Some(rtx) = video.rtx {
            let _ = write!(s, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n");
        }
        let more = [(video.pli, "nack pli"), (video.fir, "ccm fir"), (video.remb, "goog-remb")];
        write_feedback(s, &video.common, &more);
        if video.rids.is_empty() {
            write_ssrcs(s, &video.common);
        } else {
            for rid in &video.rids {
                let _ = write!(s, "a=rid:{rid} send\r\n");
            }
            let _ = write!(s, "a=simulcast:send {}\r\n", video.rids.join(";"));
        }
    }

    fn write_transport(&self, s: &mut String, common: &Common, first: bool) {
        let Self { ufrag, pwd, fingerprint, setup, .. } = self;
        let _ = write!(s, "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
        let _ = write!(s, "a=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n");
        let _ = write!(s, "a=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\n", common.mid);
        if first {
            for candidate in &self.candidates {
                let _ = write!(s, "a={candidate}\r\n");
            }
        }
        for (id, uri) in &common.extensions {
            let _ = write!(s, "a=extmap:{id} {uri}\r\n");
        }
    }

    /// An answer's media line with the parameters of sound that the engine leaves out beside redundancy. It names redundant
    /// packets first, and so they are what a browser sends.
    fn with_parameters(&self, section: String) -> String {
        let Some(audio) = self.audio.as_ref().filter(|a| a.red.is_some()) else { return section };
        if !section.starts_with("m=audio ") {
            return section;
        }
        with_sound(&section, audio.stereo, audio.dtx)
    }

    /// The engine's answer with the lines that it was not shown, and with the candidates that the other side shall know.
    pub(crate) fn finish(&self, answer: &str, candidates: &[String]) -> String {
        let (session, sections) = split(answer);
        let mut out = session;
        let mut sections = sections.into_iter().map(|text| self.with_parameters(text));
        let mut first = true;
        for section in &self.sections {
            if section.taken {
                let Some(text) = sections.next() else { continue };
                out.push_str(&text);
                if std::mem::take(&mut first) {
                    out.extend(candidates.iter().map(|c| format!("a={c}\r\n")));
                    out.push_str("a=end-of-candidates\r\n");
                }
            } else {
                // Refused: port 0 (RFC 3264 §6).
                let Section { kind, tail, mid, .. } = section;
                let _ = write!(out, "m={kind} 0 {tail}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n");
                if !mid.is_empty() {
                    let _ = write!(out, "a=mid:{mid}\r\n");
                }
            }
        }
        out
    }
}

fn write_feedback(s: &mut String, common: &Common, more: &[(bool, &str)]) {
    let all = [(common.nack, "nack"), (common.transport_cc, "transport-cc")];
    for (_, name) in all.iter().chain(more).filter(|(on, _)| *on) {
        let _ = write!(s, "a=rtcp-fb:{} {name}\r\n", common.pt);
    }
}

fn write_ssrcs(s: &mut String, common: &Common) {
    let Some(ssrc) = common.ssrc else { return };
    if let Some(rtx) = common.rtx_ssrc {
        let _ = write!(s, "a=ssrc-group:FID {ssrc} {rtx}\r\na=ssrc:{ssrc} cname:c\r\na=ssrc:{rtx} cname:c\r\n");
    } else {
        let _ = write!(s, "a=ssrc:{ssrc} cname:c\r\n");
    }
}

/// The session's lines and those of each media line, without candidates.
fn split(sdp: &str) -> (String, Vec<String>) {
    let (mut session, mut sections) = (String::new(), Vec::<String>::new());
    for line in sdp.lines() {
        if line.starts_with("a=candidate") || line.starts_with("a=end-of-candidates") || line.is_empty() {
            continue;
        }
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        let to = sections.last_mut().unwrap_or(&mut session);
        to.push_str(line);
        to.push_str("\r\n");
    }
    (session, sections)
}

#[cfg(test)]
mod tests;
