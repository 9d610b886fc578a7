"""The list of GStreamer's elements that the image is made with (deploy/image/elements.txt) is that of the elements which the code names."""

import re
import subprocess
from pathlib import Path

TOP = Path(__file__).parent.parent
LIST = TOP / "deploy" / "image" / "elements.txt"
# Names of elements in strings that mean something else: none so far.
OTHER = set()


def installed():
    """Every element that this machine's GStreamer knows."""
    lines = subprocess.run(["gst-inspect-1.0"], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    return {found.group(1) for line in lines if (found := re.match(r"\S+: +([\w-]+): ", line))}


def named():
    """Every element that the workers' code names."""
    words = set()
    for crate in ("worker", "demux", "transcode"):
        for file in (TOP / "crates" / crate / "src").rglob("*.rs"):
            body = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", file.read_text(), maxsplit=1, flags=re.M)[0]
            words |= set(re.findall(r'"([a-z][a-z0-9_]{2,})"', body)) if "tests" not in file.parts and file.name != "tests.rs" else set()
    return words


def test_the_image_has_what_the_code_names():
    text = LIST.read_text()
    has = set(re.sub("#.*", "", text).split())
    spare = {word for line in re.findall(r"^#spare (.*)", text, re.M) for word in line.split()}
    known = installed()
    assert "x264enc" in known, "GStreamer's elements can't be listed"
    code = (named() - OTHER) & (known | has | spare)
    assert code - has - spare == set(), "missing in elements.txt"
    assert spare - named() == set(), "spare, but no longer named by the code"
    # What rtspsrc makes itself, and what no chain of ours names, stands in the list for its own sake.
    assert has - named() <= {"rtpbin", "rtpjitterbuffer", "udpsrc", "udpsink", "appsrc", "srtpdec", "typefind"}
