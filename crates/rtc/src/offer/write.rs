//! Writes SDP: the offer for the engine, and the answer for the client.

use super::taken::{Audio, Common, Offer, Section, Video};
use crate::codec::with_opus_parameters;
use model::AudioCodec;
use std::fmt::Write as _;

impl Offer {
    /// The offer as we write it, for the engine.
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
        let name = match audio.codec {
            AudioCodec::PcmMulaw => "PCMU",
            AudioCodec::PcmAlaw => "PCMA",
            _ => return self.write_opus(s, audio),
        };
        let _ = write!(s, "a=rtpmap:{pt} {name}/8000\r\n");
        write_feedback(s, &audio.common, &[]);
        write_ssrcs(s, &audio.common);
    }

    fn write_opus(&self, s: &mut String, audio: &Audio) {
        let pt = audio.common.pt;
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

    /// An answer's media line with the Opus parameters that the engine leaves out beside RED (it names RED first, and so that is what
    /// a browser sends), and without layers that the client did not name.
    fn with_parameters(&self, section: String) -> String {
        if section.starts_with("m=video ") && self.video.as_ref().is_some_and(|v| !v.layer_ssrcs.is_empty()) {
            return without_layers(&section);
        }
        let Some(audio) = self.audio.as_ref().filter(|a| a.red.is_some()) else { return section };
        if !section.starts_with("m=audio ") {
            return section;
        }
        with_opus_parameters(&section, audio.stereo, audio.dtx)
    }

    /// The engine's answer with the lines that it was not shown, and with our candidates.
    pub(crate) fn finish(&self, answer: &str, candidates: &[String]) -> String {
        let (session, sections) = split(answer);
        let mut out = session;
        let mut sections = sections.into_iter().map(|text| self.with_parameters(text));
        let mut first = true;
        for section in &self.sections {
            if section.taken {
                let Some(text) = sections.next() else { continue };
                // The profile is the offered one, whatever it is called (RFC 8829 §5.1.2).
                let offered = section.tail.split(' ').next().unwrap_or_default();
                out.push_str(&text.replacen("UDP/TLS/RTP/SAVPF", offered, 1));
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

/// A media line without what it says of layers.
fn without_layers(section: &str) -> String {
    let named = |line: &&str| !line.starts_with("a=rid:") && !line.starts_with("a=simulcast:");
    section.split_inclusive("\r\n").filter(named).collect()
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
