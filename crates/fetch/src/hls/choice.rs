//! Which of the variants and renditions of a master playlist are played. Pure.

use crate::playlist::{Master, Rendition, Variant};
use crate::{Address, Error};
use std::cmp::Reverse;

/// Variants that are tried at most, where one after the other can't be fetched.
const MAX_CHOICES: usize = 6;
/// Codecs that nothing here decodes, or not as they should look (Dolby Vision without its metadata), by RFC 6381 name.
const UNPLAYABLE: [&str; 14] =
    ["dvh1", "dvhe", "dva1", "dvav", "dav1", "vvc1", "vvi1", "evc1", "lvc1", "ac-4", "mha1", "mhm1", "dtsx", "dtse"];
/// Names of codecs by which a variant is one with pictures.
const VIDEO: [&str; 11] = ["avc1", "avc3", "hvc1", "hev1", "vp08", "vp09", "av01", "mp4v", "dvh1", "dvhe", "vvc1"];

/// The playlists to play: a variant, and its audio rendition if that is separate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The variant's media playlist.
    pub main: Address,
    /// The media playlist of its audio.
    pub audio: Option<Address>,
}

/// Chooses from a master playlist. The best comes first: the largest variant within `largest` (pixels), or else the smallest. The
/// others follow, for where its server is down (redundant variants, RFC 8216 §6.2.4): those that fit from large to small, then the
/// rest from small to large, and last what can't be decoded here. Entries whose address can't be used are left out.
///
/// # Errors
/// URIs that can't be used, if none can; [`Error::Playlist`].
pub fn choose(master: &Master, base: &Address, largest: (u32, u32)) -> Result<Vec<Choice>, Error> {
    let fits = |v: &&Variant| v.size.is_none_or(|(w, h)| w <= largest.0 && h <= largest.1);
    let has_pictures = |v: &Variant| v.size.is_some() || names(&v.codecs).any(|c| VIDEO.contains(&c));
    let any_pictures = master.variants.iter().any(has_pictures);
    let of_use = |v: &&Variant| !any_pictures || has_pictures(v);
    let pixels = |v: &Variant| v.size.map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    let rank = |v: &&Variant| (pixels(v), !v.hdr, v.bandwidth);
    let (mut fitting, mut others): (Vec<_>, Vec<_>) = master.variants.iter().filter(of_use).partition(fits);
    // Stable: of equals the first comes first.
    fitting.sort_by_key(|v| Reverse(rank(v)));
    others.sort_by_key(|v| (pixels(v), v.hdr, v.bandwidth));
    let mut sorted: Vec<&Variant> = fitting.into_iter().chain(others).collect();
    sorted.sort_by_key(|v| names(&v.codecs).any(|c| UNPLAYABLE.contains(&c)));
    let (mut choices, mut fault) = (Vec::new(), None);
    for chosen in sorted {
        match base.join(&chosen.uri) {
            Ok(main) => {
                let uri = rendition(master, chosen).and_then(|r| r.uri.as_deref());
                let audio = uri.and_then(|uri| base.join(uri).ok()).filter(|audio| *audio != main);
                choices.push(Choice { main, audio });
            }
            Err(e) => {
                fault.get_or_insert(e);
            }
        }
        if choices.len() == MAX_CHOICES {
            break;
        }
    }
    if choices.is_empty() { Err(fault.unwrap_or(Error::Playlist("it lists nothing to play"))) } else { Ok(choices) }
}

/// The audio rendition of a variant: the default, or else one for all listeners, and of equals the first.
fn rendition<'a>(master: &'a Master, variant: &Variant) -> Option<&'a Rendition> {
    let group = master.audio.iter().filter(|r| Some(&r.group) == variant.audio.as_ref());
    // `max_by_key` gives the last of equals.
    group.rev().max_by_key(|r| (r.default, !r.special, r.autoselect))
}

/// The names of codecs, without what follows the first dot.
fn names(codecs: &str) -> impl Iterator<Item = &str> {
    codecs.split(',').map(|codec| codec.trim().split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(uri: &str, size: Option<(u32, u32)>, bandwidth: u64) -> Variant {
        Variant { uri: uri.into(), size, bandwidth, ..Variant::default() }
    }

    fn chosen(master: &Master) -> Vec<(String, Option<String>)> {
        let base = Address::parse("http://h/m.m3u8").unwrap();
        let all = choose(master, &base, (1280, 720)).unwrap();
        all.into_iter().map(|c| (c.main.path_and_query(), c.audio.map(|a| a.path_and_query()))).collect()
    }

    fn of(variants: Vec<Variant>) -> Vec<String> {
        chosen(&Master { variants, ..Master::default() }).into_iter().map(|(main, _)| main).collect()
    }

    #[test]
    fn the_best_variant_that_fits_is_chosen() {
        let all = vec![
            variant("low", Some((320, 180)), 1),
            variant("hd", Some((1280, 720)), 3),
            variant("hd-better", Some((1280, 720)), 4),
            variant("full", Some((1920, 1080)), 9),
            variant("sound", None, 10),
        ];
        assert_eq!(of(all.clone()), ["/hd-better", "/hd", "/low", "/full"]);
        assert_eq!(of(vec![all[3].clone(), variant("uhd", Some((3840, 2160)), 1)])[0], "/full");
        assert_eq!(of(vec![variant("a", None, 1), variant("b", None, 2)])[0], "/b");
        let named = Variant { codecs: "avc1.4d401f,mp4a.40.2".into(), ..variant("named", None, 1) };
        let sound = Variant { codecs: "mp4a.40.2".into(), ..variant("sound", None, 2) };
        assert_eq!(of(vec![sound, named]), ["/named"]);
    }

    #[test]
    fn what_can_be_decoded_goes_first() {
        let coded = |uri: &str, codecs: &str, hdr, bandwidth| Variant {
            codecs: codecs.into(),
            hdr,
            ..variant(uri, Some((1280, 720)), bandwidth)
        };
        let all = vec![
            coded("vvc", "vvc1.1.L51,mp4a.40.2", false, 9),
            coded("dolby", "mp4a.40.2, dvh1.05.01", false, 8),
            coded("hdr", "hvc1.2.4.L123.B0", true, 7),
            coded("sdr", "avc1.4d401f", false, 1),
        ];
        assert_eq!(of(all), ["/sdr", "/hdr", "/vvc", "/dolby"]);
    }

    #[test]
    fn one_unusable_address_is_left_out() {
        assert_eq!(of(vec![variant("file:///etc/passwd", None, 9), variant("a", None, 1)]), ["/a"]);
        let base = Address::parse("http://h/m.m3u8").unwrap();
        let only = Master { variants: vec![variant("rtmp://h/x", None, 9)], ..Master::default() };
        assert!(matches!(choose(&only, &base, (1280, 720)), Err(Error::Scheme(_))));
    }

    #[test]
    fn the_audio_that_is_meant_for_all_is_chosen() {
        let audio = |uri: &str, flags: &str| Rendition {
            group: "a".into(),
            uri: (!uri.is_empty()).then(|| uri.into()),
            default: flags.contains('d'),
            autoselect: flags.contains('a'),
            special: flags.contains('s'),
        };
        let of = |audio: Vec<Rendition>| {
            let variants = vec![Variant { audio: Some("a".into()), ..variant("v", None, 1) }];
            chosen(&Master { variants, audio, ..Master::default() })[0].1.clone().unwrap_or_default()
        };
        assert_eq!(of(vec![audio("1", ""), audio("2", "")]), "/1");
        assert_eq!(of(vec![audio("1", ""), audio("2", "a"), audio("3", "a")]), "/2");
        assert_eq!(of(vec![audio("1", "as"), audio("2", "a")]), "/2");
        assert_eq!(of(vec![audio("1", "s"), audio("2", "")]), "/2");
        assert_eq!(of(vec![audio("1", "a"), audio("2", "d")]), "/2");
        assert_eq!(of(vec![audio("1", "a"), audio("", "d")]), "", "it is in the variant");
        assert_eq!(of(vec![audio("v", "d")]), "", "it is the variant");
    }
}
