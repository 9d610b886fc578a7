//! The token that admits an ingress's participant to its room.

use livekit_token::{AccessToken, VideoGrants};
use model::{Blame, Fault, IngressSpec, Secret};
use std::time::Duration;

/// How long a token can be joined with: as long like the Go ingress's. A session that reconnects later than that has been
/// given a fresh one by the SFU.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// The participant's attribute that names its ingress.
const INGRESS_ID: &str = "ingress.ingressID";

/// Mints a token for the ingress's participant.
pub(super) fn mint(api_key: &str, api_secret: &Secret, spec: &IngressSpec) -> Result<Secret, Fault> {
    let grants = VideoGrants {
        room_join: true,
        room: spec.room.clone(),
        can_publish: Some(true),
        can_subscribe: Some(false),
        can_update_own_metadata: Some(true),
        ..VideoGrants::default()
    };
    AccessToken::with_api_key(api_key, api_secret.expose())
        .with_ttl(GOOD_FOR)
        .with_identity(&spec.identity)
        .with_name(&spec.participant_name)
        .with_metadata(&spec.metadata)
        .with_kind("ingress")
        .with_attributes([(INGRESS_ID, &spec.ingress_id.0)])
        .with_grants(grants)
        .to_jwt()
        .map(Secret::new)
        .map_err(|error| Fault::new(Blame::Us, format!("no token can be made from api_key and api_secret: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::livekit::convert;
    use livekit_token::TokenVerifier;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn spec() -> IngressSpec {
        convert::spec(&livekit_protocol::IngressInfo {
            ingress_id: "IN_x".into(),
            stream_key: "k".into(),
            room_name: "r".into(),
            participant_identity: "i".into(),
            participant_name: "Name".into(),
            participant_metadata: "md".into(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn a_token_says_what_the_go_ingress_says() {
        let token = mint("devkey", &Secret::new("secret"), &spec()).unwrap();
        let claims = TokenVerifier::with_api_key("devkey", "secret").verify(token.expose()).unwrap();
        assert_eq!((claims.iss.as_str(), claims.sub.as_str()), ("devkey", "i"));
        assert_eq!((claims.name.as_str(), claims.metadata.as_str()), ("Name", "md"));
        assert_eq!(claims.kind, "ingress");
        assert_eq!(claims.attributes[INGRESS_ID], "IN_x");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let left = claims.exp as u64 - now;
        assert!((86_300..=86_400).contains(&left), "{left}");
        let g = claims.video;
        assert!(g.room_join && g.room == "r" && !g.room_admin && !g.hidden);
        assert_eq!((g.can_publish, g.can_subscribe, g.can_publish_data), (Some(true), Some(false), None));
        assert_eq!(g.can_update_own_metadata, Some(true));
    }

    #[test]
    fn without_a_key_there_is_a_fault_that_names_it() {
        let fault = mint("", &Secret::default(), &spec()).unwrap_err();
        assert!(fault.text.contains("api_key") && !fault.retry);
    }
}
