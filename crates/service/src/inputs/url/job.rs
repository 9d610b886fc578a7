//! From an ingress's URL to the job of a worker that pulls: aliases of the configuration, and checks of an address that need
//! no network.

use crate::config::UrlConfig;
use ipc::demux::{Job, Source};
use model::{Blame, Fault, IngressSpec, Proxies};
use url::Url;

/// The host that stands for the aliases of the configuration. `.invalid` never resolves (RFC 6761 §6.4), so it can't be
/// anybody's; and livekit-server takes such a URL, while it refuses rtsp.
pub(crate) const ALIAS_HOST: &str = "alias.invalid";

/// What is pulled for an ingress.
///
/// # Errors
/// The ingress's URL can't be pulled; the text is for whoever made the ingress.
pub(crate) fn job(config: &UrlConfig, spec: &IngressSpec) -> Result<Job, Fault> {
    let fault = |text: &str| Fault::new(Blame::Spec, format!("invalid ingress: {text}"));
    let asked = Url::parse(spec.url.expose().trim()).ok();
    let alias = asked.filter(|a| a.host_str().is_some_and(|h| h.eq_ignore_ascii_case(ALIAS_HOST)));
    let url = if let Some(asked) = alias {
        let name = asked.path().trim_matches('/');
        let known = config.aliases.get(name);
        known.map(|url| url.expose().to_owned()).ok_or_else(|| fault("this server knows no url_alias of this name"))?
    } else {
        model::url_as_typed(spec.url.expose().trim()).into_owned()
    };
    // To the URL standard the listener's form, "srt://:9000", is no URL.
    let url = url.strip_prefix("srt://:").map_or(url.clone(), |rest| format!("srt://0.0.0.0:{rest}"));
    let parsed = Url::parse(&url).map_err(|_| fault("its URL can't be understood"))?;
    if !matches!(parsed.scheme(), "http" | "https" | "srt" | "rtsp" | "rtsps" | "rtspt" | "rtspu") {
        // Opens with the Go ingress's text: users search for it.
        return Err(fault("unsupported URL type: http, https, srt, rtsp and rtsps can be pulled"));
    }
    let layers = &spec.video.encoding.layers;
    let largest = layers.iter().map(|l| (l.width, l.height)).max().unwrap_or((u32::MAX, u32::MAX));
    let (mut guard, limits) = (config.guard.clone(), config.limits.clone());
    if !matches!(parsed.scheme(), "http" | "https") {
        // They may have logins, which a worker that needs none does not get.
        guard.proxies = Proxies::default();
    }
    Ok(Job { source: Source::Url(url), guard, limits, largest, from: None, live_only: false })
}
