"""A load balancer for TCP: passes connections on, each behind a PROXY header that says whose it is (haproxy.org, proxy-protocol.txt)."""

import ipaddress
import socket
import struct
import threading

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(version, client):
    """The header for a client's "address" and port."""
    address, port = ipaddress.ip_address(client[0]), client[1]
    if version == 1:
        there = "192.0.2.1" if address.version == 4 else "2001:db8::1"
        return f"PROXY TCP{address.version} {address} {there} {port} 1935\r\n".encode()
    there = ipaddress.ip_address("192.0.2.1" if address.version == 4 else "2001:db8::1")
    body = address.packed + there.packed + struct.pack(">HH", port, 1935) + b"\x04\0\3abc"  # and a field to be passed over
    return SIGNATURE + bytes([0x21, 0x11 if address.version == 4 else 0x21]) + struct.pack(">H", len(body)) + body


class Balancer:
    """Listens on `port` of loopback, for `target`; all its connections are `client`'s."""

    def __init__(self, target, client, version=2):
        self.target, self.client, self.version = target, client, version
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            server.sendall(header(self.version, self.client))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.socket.close()
