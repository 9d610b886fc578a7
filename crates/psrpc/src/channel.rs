//! Names of the channels a call travels on, as psrpc forms them for Redis.

/// Where clients publish requests of `method` and its servers listen: `Service|Method[|topic]|REQ`.
pub fn request(service: &str, method: &str, topic: &str) -> String {
    join(&[service, method, topic, "REQ"])
}

/// Where clients publish which server shall do a request (a ClaimResponse); all servers of the topic listen.
pub fn claim_response(service: &str, method: &str, topic: &str) -> String {
    join(&[service, method, topic, "RCLAIM"])
}

/// Where servers publish their bids (a ClaimRequest) for that client's requests.
pub fn claim_request(service: &str, client_id: &str) -> String {
    join(&[service, client_id, "CLAIM"])
}

/// Where servers publish their answers to that client.
pub fn response(service: &str, client_id: &str) -> String {
    join(&[service, client_id, "RES"])
}

/// Parts joined by `|`; empty ones vanish, so an empty topic is no topic.
fn join(parts: &[&str]) -> String {
    let mut name = String::new();
    for part in parts.iter().filter(|p| !p.is_empty()) {
        if !name.is_empty() {
            name.push('|');
        }
        sanitise(part, &mut name);
    }
    name
}

/// Keeps letters, digits and `_`; others become `u+` and four hex digits, above the basic plane `U+` and eight.
fn sanitise(part: &str, out: &mut String) {
    use std::fmt::Write;
    for c in part.chars() {
        // Writing to a String cannot fail.
        let _ = match (c, u32::from(c)) {
            ('0'..='9' | 'A'..='Z' | 'a'..='z' | '_', _) => out.write_char(c),
            (_, n @ ..0x1_0000) => write!(out, "u+{n:04x}"),
            (_, n) => write!(out, "U+{n:08x}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_seen_on_the_wire() {
        assert_eq!(request("IOInfo", "GetIngressInfo", ""), "IOInfo|GetIngressInfo|REQ");
        assert_eq!(request("IngressHandler", "DeleteIngress", "IN_x"), "IngressHandler|DeleteIngress|IN_x|REQ");
        assert_eq!(claim_response("IngressInternal", "StartIngress", ""), "IngressInternal|StartIngress|RCLAIM");
        assert_eq!(claim_request("IOInfo", "CLI_QgvDPjunwgeX"), "IOInfo|CLI_QgvDPjunwgeX|CLAIM");
        assert_eq!(response("IOInfo", "CLI_QgvDPjunwgeX"), "IOInfo|CLI_QgvDPjunwgeX|RES");
        assert_eq!(request("S", "M", "a-b|é\u{1F600}"), "S|M|au+002dbu+007cu+00e9U+0001f600|REQ");
    }

    proptest! {
        #[test]
        fn any_topic_is_one_clean_part(topic in ".+") {
            let name = request("S", "M", &topic);
            let part = name.strip_prefix("S|M|").and_then(|n| n.strip_suffix("|REQ")).unwrap();
            prop_assert!(!part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+'));
        }

        #[test]
        fn topics_have_distinct_channels(a in "[a-z|-]{1,6}", b in "[a-z|-]{1,6}") {
            prop_assert_eq!(a == b, request("S", "M", &a) == request("S", "M", &b));
        }
    }
}
