"""A TURN server: coturn, as sites run it."""

from .certificates import certify
from .processes import Program, free_ports

USER, PASSWORD = "north", "wind and rain"


class Turn(Program):
    """Listens at `address` for UDP and TCP on `port`, for TLS on `tls_port` with a certificate that `certificate` is to be trusted for.
    Relays from `address` to anywhere."""

    def __init__(self, stack, address):
        self.address, (self.port, self.tls_port, first) = address, free_ports(3)
        self.certificate, key = stack.dir / "turn.pem", stack.dir / "turn.key"
        self.key = key
        certify(self.certificate, key, "turn", f"subjectAltName=IP:{address}", "basicConstraints=critical,CA:FALSE")
        config = stack.dir / "turn.conf"
        config.write_text(f"""
listening-ip={address}
relay-ip={address}
listening-port={self.port}
tls-listening-port={self.tls_port}
min-port=40000
max-port=49999
cert={self.certificate}
pkey={key}
lt-cred-mech
user={USER}:{PASSWORD}
realm=test
no-dtls
no-cli
log-file=stdout
simple-log
verbose
pidfile={stack.dir / "turn.pid"}
userdb={stack.dir / "turn.db"}
""")
        super().__init__("turn", ["turnserver", "-c", config], stack.dir / "turn.log")
        stack.programs.append(self)
        self.wait_port(self.port, host=address)

    def livekit(self, protocol):
        """Its entry in livekit-server's rtc.turn_servers."""
        port = self.tls_port if protocol == "tls" else self.port
        return f'{{host: "{self.address}", port: {port}, protocol: {protocol}, username: "{USER}", credential: "{PASSWORD}"}}'
