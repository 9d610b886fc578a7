"""The rig: real Redis, livekit-server, ffmpeg and LiveKit viewers around the ingress, for the tests, the demo and the benchmark.

Everything listens on loopback, on ports that were free, and ends only what it started itself, by process id.
"""

from . import flv
from .feeder import Feeder
from .media import Push, Source, ffmpeg9, numbered_clip
from .processes import Died, free_ports, wait_for
from .reports import Reports
from .rtmp import RtmpClient, Refused
from .stack import KEY, SECRET, Stack, status_name
from .viewer import Viewer
from .webhooks import Webhooks

__all__ = [
    "KEY", "SECRET", "Died", "Feeder", "Push", "Refused", "Reports", "RtmpClient", "Source", "Stack", "Viewer", "Webhooks",
    "ffmpeg9", "flv", "free_ports", "numbered_clip", "status_name", "wait_for",
]
