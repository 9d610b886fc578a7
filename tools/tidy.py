#!/usr/bin/env python3
"""The rules of ARCHITECTURE.md that no compiler enforces. Prints each line that breaks one, and then fails.

Only the standard library, so that `./x check` needs nothing for it. Tested by test_tidy.py, which plants violations.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Which crate may depend on which of ours. A crate that is not named here may not exist.
ROOMS = {
    "model": set(),
    "media": {"model"},
    "timing": {"model"},
    "rtmp": {"media", "model"},
    "psrpc": set(),
    "proto": set(),
    "rtc": {"timing", "media", "model"},
    "publish": {"rtc", "timing", "media", "proto", "model"},
    "ipc": {"model"},
    "fetch": {"model"},
    "worker": {"ipc", "media", "model"},
    "demux": {"worker", "ipc", "fetch", "timing", "media", "model"},
    "transcode": {"worker", "ipc", "timing", "media", "model"},
    "session": {"ipc", "publish", "timing", "media", "model"},
    "service": {"model", "rtmp", "psrpc", "proto", "rtc", "publish", "ipc", "session"},
    "ingress": {"service", "worker", "demux", "transcode"},
}

# Tests may look at more. `fuzz` and `e2e` are no rooms: nobody may depend on them.
TEST_ROOMS = {"psrpc": {"proto"}}
OUTSIDE = {"fuzz", "e2e"}

# Libraries that are the business of some rooms alone; a trailing * stands for any ending.
ALONE = {
    "str0m*": {"rtc"},
    "openssl*": {"rtc"},
    "quinn-udp": {"rtc"},
    "redis": {"psrpc"},
    "gstreamer*": {"worker", "demux", "transcode"},
    "tokio-tungstenite": {"publish"},
    "serde-saphyr": {"service"},
    "axum": {"service"},
    "prometheus": {"service"},
    "livekit-token": {"service"},
    "clap": {"ingress"},
}

# Crates whose root does not forbid unsafe code, and why they need some. They must still deny it, and allow it by name.
UNSAFE = {}

MAX_CODE_LINES = 800
MAX_ARCHITECTURE_LINES = 200

# Where people's files are on their machines: home directories and this project's checkouts.
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(?:root|work|Users/\w+|home/\w+)/[\w.]|~/\.cache/ingress-rig")


def dependency_faults(metadata):
    """Faults in who depends on whom; `metadata` is what `cargo metadata --no-deps` prints."""
    faults = []
    names = {p["name"] for p in metadata["packages"]}
    for package in metadata["packages"]:
        name = package["name"]
        if name in OUTSIDE:
            continue
        if name not in ROOMS:
            faults.append(f"crate {name}: has no line in the table of rooms (tools/tidy.py, ARCHITECTURE.md)")
            continue
        for dependency in package["dependencies"]:
            on, test = dependency["name"], dependency["kind"] == "dev"
            allowed = ROOMS[name] | (TEST_ROOMS.get(name, set()) if test else set())
            if on in names and on not in allowed:
                faults.append(f"crate {name}: may not depend on {on}")
            for pattern, owners in ALONE.items():
                named = on.startswith(pattern[:-1]) if pattern.endswith("*") else on == pattern
                if named and name not in owners and not test:
                    faults.append(f"crate {name}: {on} is named only in {' and '.join(sorted(owners))}")
    return faults


def code_lines(text):
    """Lines of code: neither blank, nor comment, nor in a block of tests at the end of the file."""
    body = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.M)[0]
    return sum(1 for line in body.splitlines() if line.strip() and not line.strip().startswith("//"))


def rust_faults(path, text):
    """Faults in one Rust file; `path` is relative to the top."""
    faults = []
    if path.name == "mod.rs":
        faults.append(f"{path}: a module `foo` lives in foo.rs, not in foo/mod.rs")
    if not text.startswith("//!"):
        faults.append(f"{path}: opens with //! and what the file is for")
    is_test = path.name == "tests.rs" or "tests" in path.parts[:-1]
    if not is_test and (lines := code_lines(text)) > MAX_CODE_LINES:
        faults.append(f"{path}: {lines} lines of code, {MAX_CODE_LINES} at most: split it")
    parts = path.parts
    if len(parts) == 4 and parts[0] == "crates" and parts[2] == "src" and path.name in ("lib.rs", "main.rs"):
        level = "deny" if parts[1] in UNSAFE else "forbid"
        if f"#![{level}(unsafe_code)]" not in text:
            faults.append(f"{path}: lacks #![{level}(unsafe_code)]")
    return faults


def text_faults(path, text):
    """Faults in any committed text."""
    faults = [
        f"{path}:{number}: a path of somebody's machine: {found.group(0)}…"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := MACHINE_PATH.search(line))
    ]
    if str(path) == "ARCHITECTURE.md" and (lines := len(text.splitlines())) > MAX_ARCHITECTURE_LINES:
        faults.append(f"{path}: {lines} lines, {MAX_ARCHITECTURE_LINES} at most")
    return faults


def faults_in(top):
    """All faults in the checkout at `top`."""

    def run(*command):
        return subprocess.run(command, cwd=top, check=True, stdout=subprocess.PIPE, text=True).stdout

    faults = dependency_faults(json.loads(run("cargo", "metadata", "--no-deps", "--format-version", "1")))
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        path = Path(name)
        try:
            text = (top / path).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted but not committed yet
        faults += text_faults(path, text)
        if path.suffix == ".rs":
            faults += rust_faults(path, text)
    return faults


def main():
    faults = faults_in(Path(__file__).resolve().parent.parent)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
