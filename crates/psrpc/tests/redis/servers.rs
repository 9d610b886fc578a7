//! redis-servers for a test: on free ports of the loopback, ended with the test.

use psrpc::redis::Address;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A port that is free now, and that nobody else takes by chance: below those the kernel gives to outgoing connections, which
/// a client that calls a dead server again and again would otherwise end up with.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id().wrapping_mul(97).wrapping_add(step) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A directory that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("psrpc-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running redis-server. Dropping it kills it.
pub(crate) struct Redis {
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Child,
    dir: Dir,
}

impl Redis {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments)
    }

    pub(crate) fn start_on(port: u16, arguments: &[&str]) -> Self {
        let port_text = port.to_string();
        let mut all = vec!["--port", &port_text, "--bind", "127.0.0.1", "--save", ""];
        all.extend(arguments);
        Self::launch(port, Dir::new(), all.into_iter().map(str::to_owned).collect())
    }

    /// One that speaks TLS only and asks for a client's certificate.
    pub(crate) fn start_tls(certificates: &Certificates) -> Self {
        let port = free_port();
        let file = |name: &str| certificates.path(name).display().to_string();
        let arguments = [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "yes",
        ];
        Self::launch(port, Dir::new(), arguments.map(str::to_owned).to_vec())
    }

    /// A sentinel that watches a master under the name "main", and gives it up after half a second.
    pub(crate) fn start_sentinel(master: u16) -> Self {
        let (port, dir) = (free_port(), Dir::new());
        let config = dir.0.join("sentinel.conf");
        std::fs::write(
            &config,
            format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
            ),
        )
        .unwrap();
        Self::launch(port, dir, vec![config.display().to_string(), "--sentinel".into()])
    }

    /// Masters that share all slots.
    pub(crate) async fn start_cluster(count: usize) -> Vec<Self> {
        let nodes: Vec<_> = (0..count)
            .map(|_| {
                let bus = free_port().to_string();
                // With a node gone, the others still do what they can.
                let options =
                    ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-require-full-coverage", "no"];
                Self::start(&options)
            })
            .collect();
        let share = 16384 / count;
        for (i, node) in nodes.iter().enumerate() {
            let last = if i + 1 == count { 16383 } else { (i + 1) * share - 1 };
            assert_eq!(node.cli(&format!("CLUSTER ADDSLOTSRANGE {} {last}", i * share)), "OK");
            let (port, bus) = (node.port.to_string(), node.argument("--cluster-port"));
            assert_eq!(nodes[0].cli(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")), "OK");
        }
        for node in &nodes {
            node.until("CLUSTER INFO", |info| {
                info.contains("cluster_slots_assigned:16384") && info.contains("cluster_state:ok")
            })
            .await;
        }
        nodes
    }

    fn argument(&self, name: &str) -> &str {
        let at = self.arguments.iter().position(|a| a == name).unwrap();
        &self.arguments[at + 1]
    }

    fn launch(port: u16, dir: Dir, arguments: Vec<String>) -> Self {
        let child = Self::spawn(&dir, &arguments);
        let mut this = Self { port, arguments, child, dir };
        this.wait();
        this
    }

    fn spawn(dir: &Dir, arguments: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(arguments).current_dir(&dir.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("redis-server is installed")
    }

    /// Waits until it takes connections, and, where it does so in clear, answers.
    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("redis-server ended: {status}");
            }
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                if self.arguments.iter().any(|a| a == "--tls-port") {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut reply = [0; 1];
                // "+PONG", or "-NOAUTH": either way it is there.
                if stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut reply).is_ok() {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server did not come up");
    }

    pub(crate) fn address(&self) -> Address {
        Address { host: "127.0.0.1".into(), port: self.port }
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = Self::spawn(&self.dir, &self.arguments);
        self.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Runs redis-cli with these words.
    pub(crate) fn cli(&self, words: &str) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words.split(' '));
        String::from_utf8_lossy(&command.output().unwrap().stdout).trim().to_owned()
    }

    /// Asks until the reply is as wanted; the caller bounds it.
    pub(crate) async fn until(&self, words: &str, wanted: impl Fn(&str) -> bool) {
        while !wanted(&self.cli(words)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate authority, and certificates for a server and a client.
pub(crate) struct Certificates(Dir);

impl Certificates {
    pub(crate) fn new(server_name: &str) -> Self {
        let dir = Dir::new();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.0.join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(ca, key);
        for (file, name) in [("server", server_name), ("client", "ingress.test")] {
            let key = KeyPair::generate().unwrap();
            let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
            // A subject that is also the issuer's would make it look self-signed.
            leaf.distinguished_name.push(DnType::CommonName, name);
            let leaf = leaf.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.0.join(file).with_extension("pem"), leaf.pem()).unwrap();
            std::fs::write(dir.0.join(file).with_extension("key"), key.serialize_pem()).unwrap();
        }
        Self(dir)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.0.join(file)
    }
}
