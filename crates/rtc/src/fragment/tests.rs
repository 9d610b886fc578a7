//! Both forms, and what is none.

use super::*;
use crate::Accept;
use proptest::prelude::*;

const CANDIDATE: &str = "a=candidate:1 1 udp 2122317823 192.0.2.10 50111 typ host\r\n";
const BARE: &str = include_str!("../../../../fuzz/seeds/sdp_fragments/bare");

#[test]
fn bare_and_whole_fragments_are_read() {
    let read = Fragment::read(BARE).unwrap();
    assert_eq!(read.credentials.as_ref().unwrap().0, "kQ7d");
    assert_eq!((read.candidates.len(), read.whole), (1, false));
    let whole = Fragment::read(&format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{BARE}")).unwrap();
    assert_eq!(whole, Fragment { whole: true, ..read });
    assert_eq!(Fragment::read("a=end-of-candidates").unwrap(), Fragment::default());
}

#[test]
fn damaged_fragments_are_refused() {
    for text in [
        "",
        "noise",
        "a",
        "=x",
        "a=ice-ufrag:kQ7d\r\n",
        "a=ice-ufrag:k\r\na=ice-pwd:3bT0uXyZp9LmNcVfRw8sHa\r\n",
        &"a=x\r\n".repeat(10_000),
    ] {
        assert!(matches!(Fragment::read(text), Err(Refusal::Unreadable(_))), "{text:.20}");
    }
}

#[test]
fn answer_has_the_form_of_the_request() {
    let offer = Offer::read(include_str!("../../../../e2e/data/obs-offer.sdp"), &Accept::passthrough()).unwrap();
    let candidates = [CANDIDATE.trim_start_matches("a=").trim_end().to_owned()];
    for whole in [false, true] {
        let ours = ("abcdefgh", "3bT0uXyZp9LmNcVfRw8sHa");
        let answer = Fragment::answer(whole, &offer, true, ours, &candidates);
        let read = Fragment::read(&answer).unwrap();
        assert_eq!((read.whole, read.candidates.len()), (whole, if whole { 2 } else { 1 }), "{answer}");
        assert_eq!(read.credentials.unwrap().0, "abcdefgh");
        assert!(answer.contains("a=ice-lite") && answer.contains("a=group:BUNDLE 0 1"));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "\\PC{0,200}",
        lines in proptest::collection::vec("[a-z]=[ -~]{0,40}", 0..8),
    ) {
        let _ = Fragment::read(&text);
        let _ = Fragment::read(&lines.join("\n"));
    }
}
