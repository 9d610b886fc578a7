//! Whether the first bytes of a file declare its duration: then it is no live stream, however slowly and without a Content-Length it
//! comes. MP4 and Matroska are looked at. FLV is not: servers of live streams pass on what an encoder wrote there. Pure.

/// Where a Matroska file's Info ends at the latest, in bytes: it holds names and dates.
const MAX_INFO: usize = 4096;

/// See the [module](self).
pub(crate) fn is_declared(head: &[u8]) -> bool {
    mp4(head).or_else(|| matroska(head)).unwrap_or(false)
}

/// An MP4's `mvhd` (ISO 14496-12 §8.2.2), the first box of its `moov`: of a live stream it is 0 or all ones.
fn mp4(head: &[u8]) -> Option<bool> {
    let mut at = 0usize;
    loop {
        let size = u32::from_be_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?);
        if head.get(at + 4..at + 8)? == b"moov" {
            break;
        }
        if size < 8 {
            return None;
        }
        at = at.checked_add(size as usize)?;
    }
    let header = head.get(at + 8..)?.get(4..)?.strip_prefix(b"mvhd")?;
    let duration = match header.first()? {
        0 => header.get(16..20)?,
        _ => header.get(24..32)?,
    };
    Some(duration.iter().any(|b| *b != 0) && duration.iter().any(|b| *b != 0xFF))
}

/// Matroska's Duration (RFC 9559 §5.1.2.10), a number of 4 or 8 bytes in its Info.
fn matroska(head: &[u8]) -> Option<bool> {
    let info = head.windows(4).position(|id| id == [0x15, 0x49, 0xA9, 0x66])?;
    let info = &head[info..head.len().min(info + MAX_INFO)];
    let at = info.windows(3).position(|id| id[..2] == [0x44, 0x89] && matches!(id[2], 0x84 | 0x88))?;
    let value = info.get(at + 3..)?;
    let seconds = match info[at + 2] {
        0x84 => f64::from(f32::from_be_bytes(value.get(..4)?.try_into().ok()?)),
        _ => f64::from_be_bytes(value.get(..8)?.try_into().ok()?),
    };
    Some(seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// What ffmpeg writes with these options, to a file or to a pipe.
    fn made(name: &str, seekable: bool, options: &[&str]) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("length-{}-{name}", std::process::id()));
        let input = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "libopus"];
        let to = if seekable { path.to_str().unwrap() } else { "pipe:1" };
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]).args(input).args(options).arg(to);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        if !seekable {
            return out.stdout;
        }
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        bytes
    }

    #[test]
    fn files_declare_it_and_live_streams_do_not() {
        for (name, options) in [("a.mp4", &["-movflags", "+faststart"][..]), ("a.mkv", &[]), ("a.webm", &[])] {
            assert!(is_declared(&made(name, true, options)), "{name}");
        }
        let fragments = "+frag_keyframe+empty_moov+default_base_moof";
        let live = [
            ("b.mp4", &["-movflags", fragments, "-f", "mp4"][..]),
            ("b.mkv", &["-f", "matroska"]),
            ("b.webm", &["-f", "webm", "-live", "1"]),
            ("b.ts", &["-f", "mpegts"]),
        ];
        for (name, options) in live {
            assert!(!is_declared(&made(name, false, options)), "{name}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_declared(&noise);
            is_declared(&[b"\0\0\0\x08free\0\0\0\x40moov\0\0\0\x20mvhd", &noise[..]].concat());
            is_declared(&[&[0x15, 0x49, 0xA9, 0x66, 0x44, 0x89, 0x88], &noise[..]].concat());
        }
    }
}
