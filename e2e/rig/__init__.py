"""The rig: real Redis, livekit-server, ffmpeg and LiveKit viewers around the ingress, for the tests, the demo and the benchmark.

Everything listens on loopback, on ports that were free, and ends only what it started itself, by process id.
"""

from .media import Push, Source
from .processes import Died, free_ports, wait_for
from .reports import Reports
from .rtmp import RtmpClient, Refused
from .stack import KEY, SECRET, Stack, status_name
from .viewer import Viewer
from .webhooks import Webhooks

__all__ = [
    "KEY", "SECRET", "Died", "Push", "Refused", "Reports", "RtmpClient", "Source", "Stack", "Viewer", "Webhooks",
    "free_ports", "status_name", "wait_for",
]
