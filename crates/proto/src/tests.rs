//! The messages against recordings of livekit-server 1.13.5 and the Go ingress, and against the proto files.

use super::*;
use livekit_protocol::ingress_state::Status;
use prost::Message;
use std::collections::BTreeMap;
use std::process::Command;

/// Bytes from hex digits and quoted text, as recordings are written down.
fn bytes(recording: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, part) in recording.split('"').enumerate() {
        if i % 2 == 1 {
            out.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        out.extend(digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()));
    }
    out
}

#[test]
fn lookup_request_matches_the_go_ingress() {
    let request = GetIngressInfoRequest { stream_key: "Uvg8i8xsZSBS".into(), ..Default::default() };
    assert_eq!(request.encode_to_vec(), bytes(r#"120c "Uvg8i8xsZSBS""#));
}

#[test]
fn recorded_lookup_answer_is_read() {
    // As recorded, but for the state's inner fields, of which the recording kept only some.
    let recording = r#"0a70
        0a0f "IN_b9TMQXCGVbrL" 1202 "n1" 1a0c "Uvg8i8xsZSBS" 221a "rtmp://127.0.0.1:7935/live"
        4202 "r1" 4a03 "id1" 5208 "Name One" 5801 6210 1a0e 0a0a "video/H264" 1840 7203 "md1" 7801"#;
    let mut recording = bytes(recording);
    recording[1] = u8::try_from(recording.len() - 2).unwrap();
    let info = GetIngressInfoResponse::decode(&recording[..]).unwrap().info.unwrap();
    assert_eq!((info.ingress_id.as_str(), info.name.as_str()), ("IN_b9TMQXCGVbrL", "n1"));
    assert_eq!((info.stream_key.as_str(), info.url.as_str()), ("Uvg8i8xsZSBS", "rtmp://127.0.0.1:7935/live"));
    assert_eq!((info.room_name.as_str(), info.participant_identity.as_str()), ("r1", "id1"));
    assert_eq!((info.participant_name.as_str(), info.participant_metadata.as_str()), ("Name One", "md1"));
    assert_eq!((info.reusable, info.enable_transcoding, info.enabled), (true, Some(true), None));
    assert_eq!(info.state.unwrap().video.unwrap().mime_type, "video/H264");
}

#[test]
fn first_report_matches_the_go_ingress() {
    let state = IngressState {
        status: Status::EndpointBuffering.into(),
        started_at: 300,
        resource_id: "RT_BARSFg7vd755".into(),
        updated_at: 301,
        ..Default::default()
    };
    let request = UpdateIngressStateRequest { ingress_id: "IN_b9TMQXCGVbrL".into(), state: Some(state) };
    assert_eq!(
        request.encode_to_vec(),
        bytes(r#"0a0f "IN_b9TMQXCGVbrL" 1219 0801 38ac02 4a0f "RT_BARSFg7vd755" 50ad02"#)
    );
}

#[test]
fn list_matches_the_go_ingress() {
    let (ingress_id, resource_id) = ("IN_Xv3QqyfpodN7".to_owned(), "RT_YAbYPsXzPPxZ".to_owned());
    let response = ListActiveIngressResponse {
        ingress_ids: vec![ingress_id.clone()],
        ingress_sessions: vec![IngressSession { ingress_id, resource_id }],
    };
    let recording = r#"0a0f "IN_Xv3QqyfpodN7" 1222 0a0f "IN_Xv3QqyfpodN7" 120f "RT_YAbYPsXzPPxZ""#;
    assert_eq!(response.encode_to_vec(), bytes(recording));
    assert!(ListActiveIngressResponse::default().encode_to_vec().is_empty());
}

#[test]
fn preset_zero_differs_from_no_preset() {
    use livekit_protocol::IngressVideoOptions;
    use livekit_protocol::ingress_video_options::EncodingOptions;
    assert_eq!(IngressVideoOptions::decode(&[0x18, 0][..]).unwrap().encoding_options, Some(EncodingOptions::Preset(0)));
    assert_eq!(IngressVideoOptions::decode(&[][..]).unwrap().encoding_options, None);
}

/// Messages by name in lower case, each with its fields and their numbers.
type Messages = BTreeMap<String, BTreeMap<String, u32>>;

fn from_proto(text: &str, into: &mut Messages) {
    let mut message = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ").and_then(|l| l.split([' ', '{']).next()) {
            into.insert(name.to_lowercase(), BTreeMap::new());
            message = (!line.ends_with('}')).then(|| name.to_lowercase());
        } else if line.starts_with('}') {
            message = None;
        } else if let (Some(message), Some((field, number))) = (&message, line.split_once(" = ")) {
            let number = number.split([';', ' ']).next().and_then(|n| n.parse().ok());
            let (Some(name), Some(number)) = (field.split(' ').next_back(), number) else { continue };
            into.get_mut(message).unwrap().insert(name.to_owned(), number);
        }
    }
}

fn from_rust(text: &str) -> Messages {
    let (mut messages, mut message, mut tag) = (Messages::new(), String::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|l| l.split(' ').next()) {
            message = name.to_lowercase();
            messages.insert(message.clone(), BTreeMap::new());
        } else if line.starts_with("#[prost(") {
            tag = line.split("tag = \"").nth(1).and_then(|t| t.split('"').next()).and_then(|t| t.parse().ok());
        } else if let (Some(name), Some(number)) =
            (line.strip_prefix("pub ").and_then(|l| l.split(':').next()), tag.take())
        {
            messages.get_mut(&message).unwrap().insert(name.to_owned(), number);
        }
    }
    messages
}

#[test]
fn fields_match_the_proto_files() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .unwrap();
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let manifest = metadata
        .split("\"manifest_path\":\"")
        .filter_map(|part| part.split('"').next())
        .find(|path| path.contains("/livekit-protocol-"))
        .expect("livekit-protocol is a dependency");
    let dir = std::path::Path::new(manifest).parent().unwrap().join("protocol/protobufs/rpc");
    let mut theirs = Messages::new();
    for file in ["ingress.proto", "io.proto"] {
        from_proto(&std::fs::read_to_string(dir.join(file)).unwrap(), &mut theirs);
    }
    let mut ours = from_rust(include_str!("lib.rs"));
    assert_eq!(ours.remove("empty"), Some(BTreeMap::new()), "it is Google's");
    assert_eq!(ours.len(), 12);
    for (name, fields) in ours {
        assert_eq!(Some(&fields), theirs.get(&name), "{name}");
    }
}
