"""Receives livekit-server's webhooks."""

import http.server
import json
import threading

from .processes import free_ports


class Webhooks:
    """An HTTP server on `url` that keeps what was posted to it."""

    def __init__(self):
        self.events = []
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}/"
        events = self.events

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def of(self, ingress_id):
        """Names of the events about one ingress, in the order they came."""
        return [e["event"] for e in list(self.events) if e.get("ingressInfo", {}).get("ingressId") == ingress_id]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
