//! The program as it runs: ready without a control plane, and ended by each signal. What signals do to sessions is tested in
//! crate `service`, with a control plane within the process.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// A program that is ready.
struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start() -> Self {
        let rtmp_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Nothing listens on port 9 (discard) of a test machine's loopback interface. WHIP is switched off.
        let body = format!(
            "{{redis: {{address: '127.0.0.1:9'}}, api_key: k, api_secret: a-secret-of-enough-letters-0123, \
             ws_url: 'ws://127.0.0.1:9', bind_address: 127.0.0.1, rtmp_port: {rtmp_port}, whip_port: 0}}"
        );
        let mut child = Command::new(env!("CARGO_BIN_EXE_ingress"))
            .args(["--config-body", &body])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut program = Self { child, log };
        program.wait_log(" ready");
        program
    }

    /// Reads the log up to a line with this text.
    fn wait_log(&mut self, text: &str) {
        let mut seen = Vec::new();
        for line in self.log.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("{text:?} is not in {seen:#?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.wait_log(" stopped");
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_signal_ends_the_program_in_order() {
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let program = Program::start();
        program.signal(signal);
        assert!(program.end().success(), "{signal:?}");
    }
}

#[test]
fn a_second_signal_is_no_crash() {
    let program = Program::start();
    program.signal(Signal::TERM);
    program.signal(Signal::INT);
    assert!(program.end().success());
}
