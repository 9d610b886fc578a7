"""Listens on Redis to every state that the ingress reports, also to those that livekit-server then refuses.

The message is rpc.UpdateIngressStateRequest inside psrpc's envelope.
"""

import threading
from collections import namedtuple

from livekit.protocol import ingress as pb

from .psrpc import Redis, fields
from .stack import status_name

CHANNEL = "IOInfo|UpdateIngressState|REQ"

Report = namedtuple("Report", "ingress_id status error state")


class Reports:
    """Every reported state, in order. A repeated attempt to deliver the same state counts once."""

    def __init__(self, stack):
        self.all = []
        self._redis = Redis(stack.port["redis"], CHANNEL)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            while True:
                request = fields(fields(self._redis.message())[2])
                body = fields(request[8])
                state = pb.IngressState.FromString(body.get(2, b""))
                report = Report(body[1].decode(), status_name(state), state.error, state)
                if report not in self.all:
                    self.all.append(report)
        except (OSError, ConnectionError, ValueError):
            return  # closed

    def of(self, ingress_id):
        return [r for r in list(self.all) if r.ingress_id == ingress_id]

    def statuses(self, ingress_id):
        """Statuses of one ingress in order, repetitions of one and the same folded."""
        names = [r.status for r in self.of(ingress_id)]
        return [n for i, n in enumerate(names) if i == 0 or n != names[i - 1]]

    def close(self):
        self._redis.close()
        self._thread.join(5)
