//! What a WHIP client says in its request line and headers.

use service::inputs::whip::{IfMatch, Target, is_type, key_of};

/// A path with what is escaped in it put in its place (RFC 3986 §2.1).
fn plain(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|d| byte == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        rest = if code.is_some() { &after[2..] } else { after };
        bytes.push(code.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Four lines: a path, `Authorization`, `If-Match` and `Content-Type`. Promises: a key is part of what was sent and has no
/// spaces, a path's parts are too, and a tag that was quoted alone is found again.
pub fn whip_headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let [path, authorization, condition, content_type] = [0; 4].map(|_| lines.next().unwrap_or_default());
    if let Some(target) = Target::read(path) {
        // Slashes in a row count as one.
        assert!(target.app.is_empty() || target.app.split('/').all(|part| !part.is_empty() && path.contains(part)));
        // A key may be escaped.
        assert!(target.key.is_none_or(|key| plain(path).contains(key.expose()) && !key.is_empty()));
        assert!(target.resource.is_none_or(|resource| resource.0.len() == 15 && path.contains(&resource.0)));
    }
    if let Some(key) = key_of(authorization) {
        assert!(authorization.contains(key.expose()) && key.expose().bytes().all(|b| b.is_ascii_graphic()));
    }
    match IfMatch::read(condition) {
        IfMatch::Missing => assert!(condition.trim().is_empty()),
        IfMatch::Any => assert!(condition.contains('*')),
        IfMatch::Tags(tags) => {
            for tag in tags.iter().filter(|tag| !tag.contains([',', '"', '*']) && tag.trim() == *tag && !tag.is_empty())
            {
                assert!(IfMatch::read(&format!("\"{tag}\"")).names(tag), "{tag}");
            }
        }
    }
    if is_type(content_type, "application/sdp") {
        assert!(content_type.to_ascii_lowercase().contains("application/sdp"));
    }
}
