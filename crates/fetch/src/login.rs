//! Logging in to an HTTP or RTSP server: Basic (RFC 7617) and Digest (RFC 7616, and RFC 2069 for servers without `qop`), with MD5 and
//! SHA-256. Pure.

use base64::Engine;
use md5::Md5;
use model::Secret;
use sha2::{Digest, Sha256};

/// User, password, and the challenge of the server.
#[derive(Debug)]
pub struct Login {
    user: Secret,
    password: Secret,
    /// The client nonce.
    cnonce: String,
    challenge: Option<Challenge>,
    /// Requests sent with this challenge: the nonce count.
    count: u32,
}

#[derive(Debug)]
enum Challenge {
    Basic,
    Digest { hash: Hash, realm: String, nonce: String, opaque: Option<String>, algorithm: Option<String>, qop: bool },
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Md5,
    Sha256,
}

impl Hash {
    fn of(self, text: &str) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

impl Login {
    /// A login; `random` makes the client nonce. `None` if the user can't stand in a header.
    pub fn new(user: String, password: String, random: u64) -> Option<Self> {
        if user.chars().any(char::is_control) {
            return None;
        }
        let cnonce = format!("{random:016x}");
        Some(Self { user: user.into(), password: password.into(), cnonce, challenge: None, count: 0 })
    }

    /// Takes the values of the server's `WWW-Authenticate` headers and keeps the strongest challenge that we can answer. Returns
    /// whether the last nonce was only stale; `None` if we can answer no challenge.
    pub(crate) fn challenged<'a>(&mut self, values: impl Iterator<Item = &'a str>) -> Option<bool> {
        let all: Vec<_> = values.flat_map(challenges).collect();
        let digest = all.iter().find_map(digest);
        let basic = || all.iter().any(|c| c.scheme == "basic").then_some((Challenge::Basic, false));
        let (challenge, stale) = digest.or_else(basic)?;
        (self.challenge, self.count) = (Some(challenge), 0);
        Some(stale)
    }

    /// Whether the challenge it answers is Digest.
    pub(crate) fn is_digest(&self) -> bool {
        matches!(self.challenge, Some(Challenge::Digest { .. }))
    }

    /// The value of the Authorization header of a request; `None` before a challenge.
    pub(crate) fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let (user, password) = (self.user.expose(), self.password.expose());
        let Challenge::Digest { hash, realm, nonce, opaque, algorithm, qop } = self.challenge.as_ref()? else {
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            return Some(format!("Basic {login}"));
        };
        self.count = self.count.wrapping_add(1);
        let (count, cnonce) = (format!("{:08x}", self.count), &self.cnonce);
        let secret = hash.of(&format!("{user}:{realm}:{password}"));
        let request = hash.of(&format!("{method}:{uri}"));
        let response = hash.of(&match qop {
            true => format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}"),
            false => format!("{secret}:{nonce}:{request}"),
        });
        let user = user.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!(
            r#"Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{response}""#
        );
        if let Some(algorithm) = algorithm {
            text += &format!(", algorithm={algorithm}");
        }
        if let Some(opaque) = opaque {
            text += &format!(r#", opaque="{opaque}""#);
        }
        if *qop {
            text += &format!(r#", qop=auth, nc={count}, cnonce="{cnonce}""#);
        }
        Some(text)
    }
}

/// A challenge as received. Values have no quotes but keep their escapes, as they are sent back.
#[derive(Debug, Default)]
struct Received<'a> {
    scheme: String,
    values: Vec<(String, &'a str)>,
}

impl<'a> Received<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find_map(|(found, value)| (found == name).then_some(*value))
    }
}

/// A Digest challenge that we can answer, and whether the last nonce was stale.
fn digest(received: &Received<'_>) -> Option<(Challenge, bool)> {
    if received.scheme != "digest" {
        return None;
    }
    let algorithm = received.get("algorithm");
    let hash = match algorithm.map(str::to_ascii_lowercase).as_deref() {
        None | Some("md5") => Hash::Md5,
        Some("sha-256") => Hash::Sha256,
        Some(_) => return None,
    };
    let qop = match received.get("qop") {
        None | Some("") => false,
        Some(qop) if qop.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")) => true,
        Some(_) => return None,
    };
    let owned = |name: &str| received.get(name).map(str::to_owned);
    let stale = received.get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true"));
    let (realm, nonce) = (owned("realm").unwrap_or_default(), owned("nonce")?);
    let algorithm = algorithm.map(str::to_owned);
    Some((Challenge::Digest { hash, realm, nonce, opaque: owned("opaque"), algorithm, qop }, stale))
}

/// The challenges in one header (RFC 9110 §11.6.1): schemes and their parameters, separated by commas.
fn challenges(value: &str) -> Vec<Received<'_>> {
    let mut all: Vec<Received<'_>> = Vec::new();
    for part in parts(value) {
        let part = part.trim();
        let (scheme, pair) = match part.split_once(char::is_whitespace) {
            Some((word, rest)) if !word.contains('=') && !rest.trim_start().starts_with('=') => (Some(word), rest),
            None if !part.contains('=') => (Some(part), ""),
            _ => (None, part),
        };
        if let Some(scheme) = scheme.filter(|s| !s.is_empty()) {
            all.push(Received { scheme: scheme.to_ascii_lowercase(), values: Vec::new() });
        }
        if let (Some((name, value)), Some(last)) = (pair.split_once('='), all.last_mut()) {
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            last.values.push((name.trim().to_ascii_lowercase(), bare));
        }
    }
    all
}

/// Splits at commas outside quotes.
fn parts(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |c| {
            let literal = escaped;
            escaped = quoted && !literal && c == '\\';
            quoted ^= c == '"' && !literal;
            c == ',' && !quoted
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login() -> Login {
        Login::new("Mufasa".into(), "Circle of Life".into(), 0).unwrap()
    }

    fn answer(login: &mut Login, said: &[&str]) -> Option<String> {
        login.challenged(said.iter().copied())?;
        login.authorization("DESCRIBE", "rtsp://h/x")
    }

    #[test]
    fn the_digests_of_the_rfcs() {
        // RFC 7616 §3.9.1 and RFC 2617 §3.5.
        let realm = r#"realm="http-auth@example.org", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        for (algorithm, response) in [
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ] {
            let said = format!(r#"Digest qop="auth, auth-int", algorithm={algorithm}, {realm}"#);
            let mut login = login();
            login.cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".into();
            assert_eq!(login.challenged([said.as_str()].into_iter()), Some(false));
            let sent = login.authorization("GET", "/dir/index.html").unwrap();
            assert!(sent.contains(&format!(r#"response="{response}""#)), "{sent}");
            assert!(sent.contains("qop=auth, nc=00000001") && sent.contains(r#"opaque="FQhe"#), "{sent}");
            assert!(login.authorization("GET", "/").unwrap().contains("nc=00000002"));
        }
    }

    #[test]
    fn a_digest_without_qop() {
        let sent = answer(&mut login(), &[r#"Digest realm="a, b", nonce="n", stale=TRUE"#]).unwrap();
        let hash = |text: &str| Hash::Md5.of(text);
        let (secret, request) = (hash("Mufasa:a, b:Circle of Life"), hash("DESCRIBE:rtsp://h/x"));
        let response = hash(&format!("{secret}:n:{request}"));
        let wanted =
            format!(r#"Digest username="Mufasa", realm="a, b", nonce="n", uri="rtsp://h/x", response="{response}""#);
        assert_eq!(sent, wanted);
    }

    #[test]
    fn the_strongest_challenge_is_answered() {
        let basic = Some("Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl");
        let mut login = login();
        assert_eq!(answer(&mut login, &[r#"Basic realm="x""#]).as_deref(), basic);
        assert_eq!(answer(&mut login, &["Basic"]).as_deref(), basic);
        let both = [r#"Basic realm="x", Digest realm="y", nonce="n""#];
        assert!(answer(&mut login, &both).unwrap().starts_with(r#"Digest username="Mufasa", realm="y""#));
        let strange = [r#"Digest realm="y", nonce="n", algorithm=SHA-512-256"#, r#"Basic realm="x""#];
        assert_eq!(answer(&mut login, &strange).as_deref(), basic);
        for none in ["", "Negotiate", r#"Digest realm="y""#, r#"Digest nonce="n", qop="auth-int""#, "=,=,\"", "Digest"]
        {
            assert_eq!(answer(&mut login, &[none]), None, "{none}");
        }
        assert_eq!(login.challenged([r#"Digest realm = "y" , nonce = "n", stale=true"#].into_iter()), Some(true));
    }

    #[test]
    fn a_user_cannot_inject_headers() {
        assert!(Login::new("a\r\nX: y".into(), String::new(), 0).is_none());
        let mut login = Login::new(r#"a"b\"#.into(), String::new(), 0).unwrap();
        assert!(answer(&mut login, &[r#"Digest nonce="n""#]).unwrap().contains(r#"username="a\"b\\", realm"#));
        assert!(!format!("{:?}", super::tests::login()).contains("Circle"));
    }

    proptest! {
        #[test]
        fn any_challenge_leads_to_one_line_or_none(said in "[ -~]{0,80}") {
            if let Some(sent) = answer(&mut login(), &[&said, &format!("Digest nonce={said}")]) {
                prop_assert!(!sent.contains('\n'));
            }
        }
    }
}
