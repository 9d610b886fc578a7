//! The program's messages and exit codes. (That these tests need the program also makes `cargo test` build it, with the same
//! features as all else; the end-to-end tests then take it from there.)

use std::process::{Command, Output};

fn ingress(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingress"));
    for name in
        ["LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "LIVEKIT_WS_URL", "INGRESS_CONFIG_FILE", "INGRESS_CONFIG_BODY"]
    {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the program starts")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GOOD: &str = "{redis: {address: 'localhost:6379'}, api_key: k, api_secret: a-secret-of-enough-letters-0123, ws_url: 'ws://localhost:7880'}";

#[test]
fn a_good_configuration_is_shown_without_its_secrets() {
    let output = ingress(&["check-config", "--config-body", GOOD]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(shown.contains("localhost:6379") && shown.contains("rtmp_port: 1935"), "{shown}");
    assert!(!shown.contains("a-secret-of"), "{shown}");
}

#[test]
fn all_faults_are_told_at_once_and_the_exit_code_says_so() {
    for arguments in [&["check-config"][..], &[]] {
        let body = "{rtmp_port: abc, cpu_cost: {min_idle_ratio: seven}}";
        let output = ingress(&[arguments, &["--config-body", body]].concat());
        let words = errors(&output);
        assert_eq!(output.status.code(), Some(78), "{words}");
        for key in ["rtmp_port", "cpu_cost.min_idle_ratio", "redis", "api_key", "api_secret", "ws_url"] {
            assert!(words.contains(key), "{key} is missing from: {words}");
        }
    }
}

#[test]
fn an_unknown_key_is_a_warning_or_with_strict_an_error() {
    let body = GOOD.replacen('{', "{rtmp_prot: 1, ", 1);
    let output = ingress(&["check-config", "--config-body", &body]);
    assert!(output.status.success() && errors(&output).contains("rtmp_port"), "{}", errors(&output));
    let output = ingress(&["check-config", "--strict", "--config-body", &body]);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_transcoder_that_nobody_started_says_so() {
    let output = ingress(&["transcode"]);
    assert!(!output.status.success(), "standard input is no socket");
}

#[test]
fn health_of_nothing_is_a_failure_in_words() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let body = GOOD.replacen('{', &format!("{{health_port: {port}, "), 1);
    let output = ingress(&["health", "--config-body", &body]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&format!("no ingress answers at 127.0.0.1:{port}")), "{}", errors(&output));
    let output = ingress(&["health"]);
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
}

#[test]
fn manual_and_completions_are_printed_without_a_configuration() {
    let page = String::from_utf8(ingress(&["manual"]).stdout).unwrap();
    assert!(page.contains(".TH ingress 1") && page.contains("check\\-config"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(ingress(&["completions", shell]).stdout).unwrap();
        assert!(script.contains("check-config"), "{shell}");
        assert!(!script.contains("worker"), "{shell}: what is for itself is not offered");
    }
}
