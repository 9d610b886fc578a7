//! HTTP by a proxy of the environment: what is fetched over TLS has a way through it opened, the rest is asked of it.

use crate::deadline_stream::DeadlineStream;
use crate::{Address, Error, Scheme, guard};
use model::{Proxy, ProxyAnswer, PullGuard};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Bytes read of a proxy's answer at once.
const PIECE: usize = 1024;

/// The proxy that leads to this address, if one is to be used.
pub(crate) fn proxy<'a>(guard: &'a PullGuard, to: &Address) -> Option<&'a Proxy> {
    let tls = match to.scheme {
        Scheme::Http => false,
        Scheme::Https => true,
        Scheme::Srt | Scheme::Rtsp | Scheme::Rtsps => return None,
    };
    guard.proxies.leading_to(tls, &to.host(), to.port())
}

/// Checks an address that a proxy will look up: by its name, and by what it is here, where it can be looked up. Where private addresses
/// are refused, as content of the net never leads to one, a name that can't is refused too.
pub(crate) fn check(guard: &PullGuard, to: &Address, within: Duration) -> Result<(), Error> {
    match guard::resolve(guard, &to.host(), to.port(), to.is_from_outside(), within) {
        // Where content of the net leads may not be inside, whatever else is allowed.
        Err(Error::Unresolved(_) | Error::LookupTimeout(..)) if !guard.refuse_private && !to.is_from_outside() => {
            Ok(())
        }
        Err(Error::Unresolved(host) | Error::LookupTimeout(host, _)) => {
            let why =
                "its name can't be looked up here, and this server refuses private addresses; url.allow can name it";
            Err(Error::Denied { host, why: why.into() })
        }
        other => other.map(drop),
    }
}

/// Opens a way to an address over TLS through its proxy.
pub(crate) fn open(stream: &mut DeadlineStream, proxy: &Proxy, to: &Address, within: Duration) -> Result<(), Error> {
    let broken = |e| Error::Unreachable(proxy.to_string(), e);
    let refused = |why: &str| Error::Proxy { proxy: proxy.to_string(), host: to.authority(), why: why.to_owned() };
    stream.set_deadline(Some(Instant::now() + within)).map_err(broken)?;
    stream.write_all(proxy.connect(&to.host(), to.port()).expose().as_bytes()).map_err(broken)?;
    let (mut answer, mut piece) = (Vec::new(), [0; PIECE]);
    loop {
        match stream.read(&mut piece).map_err(broken)? {
            0 => return Err(refused("it hung up")),
            n => answer.extend_from_slice(&piece[..n]),
        }
        match Proxy::answer_alone(&answer) {
            ProxyAnswer::Partial => {}
            ProxyAnswer::Refused(why) => return Err(refused(&why)),
            ProxyAnswer::Open(_) => return stream.set_deadline(None).map_err(broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that resolves nowhere (RFC 6761 §6.4): a proxy may know better.
    const UNKNOWN: &str = "http://intranet.invalid/a.ts";

    #[test]
    fn what_only_the_proxy_can_look_up_is_not_reached_by_content_of_the_net() {
        let within = Duration::from_secs(5);
        let mut guard = PullGuard::default();
        let named = Address::parse(UNKNOWN).unwrap();
        assert!(check(&guard, &named, within).is_ok(), "whoever made the ingress names it");
        let public = Address::parse("http://example.com/").unwrap().answered_by(Ok("93.184.216.34".parse().unwrap()));
        let led = public.join(UNKNOWN).unwrap();
        assert!(matches!(check(&guard, &led, within), Err(Error::Denied { .. })));
        guard.refuse_private = true;
        assert!(matches!(check(&guard, &named, within), Err(Error::Denied { .. })));
    }
}
