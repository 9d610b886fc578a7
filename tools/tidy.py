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
    "confine": set(),
    "media": {"model"},
    "timing": {"model"},
    "rtmp": {"media", "model"},
    "psrpc": {"model"},
    "proto": set(),
    "rtc": {"timing", "media", "model"},
    "publish": {"rtc", "timing", "media", "proto", "model"},
    "ipc": {"model"},
    "fetch": {"model"},
    "worker": {"confine", "ipc", "media", "model"},
    "demux": {"worker", "ipc", "fetch", "timing", "media", "model"},
    "transcode": {"worker", "ipc", "timing", "media", "model"},
    "session": {"confine", "ipc", "publish", "timing", "media", "model"},
    "service": {"confine", "model", "rtmp", "psrpc", "proto", "rtc", "publish", "ipc", "session"},
    "ingress": {"confine", "service", "worker", "demux", "transcode"},
}

# Tests may look at more. `fuzz` and `e2e` are no rooms: nobody may depend on them.
TEST_ROOMS = {"psrpc": {"proto"}}
OUTSIDE = {"fuzz", "e2e"}

# Libraries that are the business of some rooms alone; a trailing * stands for any ending.
ALONE = {
    "str0m*": {"rtc"},
    "openssl*": {"rtc"},
    "quinn-udp": {"rtc"},
    "turn-*": {"rtc"},
    "redis": {"psrpc"},
    "gstreamer*": {"worker", "demux", "transcode"},
    "tokio-tungstenite": {"publish"},
    "serde-saphyr": {"service"},
    "axum": {"service"},
    "prometheus": {"service"},
    "livekit-token": {"service"},
    "clap*": {"ingress"},
    "landlock": {"confine"},
    "seccompiler": {"confine"},
}

# Crates whose root does not forbid unsafe code, and why they need some. They must still deny it, and allow it by name.
UNSAFE = {}

MAX_CODE_LINES = 800

# In these crates no struct has more fields: a wider one holds the state of several parts.
NARROW = ("session", "publish", "demux", "service")
MAX_FIELDS = 20
# Wider structs that stand for now, as (crate, struct). The list only shrinks.
WIDE = set()
# Circles of files that stand for now, each as its files in order. The list only shrinks.
CIRCLES = set()

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


def product_code(text):
    """A Rust file without comments and without the block of tests at its end."""
    body = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.M)[0]
    return re.sub(r"//[^\n]*", "", body)


def paths_named(code):
    """The paths beginning with `crate` or `super` that some code names, lists in braces spread out."""

    def spread(prefix, tree):
        depth, start, parts = 0, 0, []
        for at, c in enumerate(tree):
            depth += (c == "{") - (c == "}")
            if c == "," and depth == 0:
                parts.append(tree[start:at])
                start = at + 1
        for part in [*parts, tree[start:]]:
            head, brace, rest = part.strip().partition("{")
            names = [n for n in head.split(" as ")[0].strip().split("::") if n]
            if brace:
                yield from spread(prefix + names, rest.rsplit("}", 1)[0])
            elif names:
                yield prefix + names

    uses = re.compile(r"\buse\s+((?:crate|super)::[^;]*);", re.S)
    for found in uses.finditer(code):
        yield from spread([], found.group(1))
    for found in re.finditer(r"\b(?:crate|super)(?:::\w+)+", uses.sub("", code)):
        yield found.group(0).split("::")


def circle_faults(crate, files):
    """Circles among the files of one crate; `files` has each file's text by its path below `src`. A module and the modules inside it
    count as one: only files of which neither holds the other can form a circle."""
    modules = {}
    for path, text in files.items():
        names = tuple(path.with_suffix("").parts)
        if "tests" not in names and names[-1] != "testing":
            modules[() if names in (("lib",), ("main",)) else names] = product_code(text)

    def file_of(names):
        while names not in modules and names:
            names = names[:-1]
        return names

    edges = {module: set() for module in modules}
    for module, code in modules.items():
        for path in paths_named(code):
            up = sum(1 for name in path if name == "super")
            base = () if path[0] == "crate" else module[: max(len(module) - up, 0)]
            target = file_of(base + tuple(name for name in path if name not in ("crate", "super", "self")))
            related = target == module[: len(target)] or module == target[: len(module)]
            if not related:
                edges[module].add(target)

    def reached(start):
        seen, todo = set(), list(edges[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += edges[module]
        return seen

    reach = {module: reached(module) for module in modules}
    circles = {frozenset(m for m in reach[start] if start in reach[m]) for start in modules if start in reach[start]}
    named = sorted(tuple(sorted("/".join(m) + ".rs" for m in circle)) for circle in circles)
    return [f"crate {crate}: these files name each other in a circle: {', '.join(c)}" for c in named if (crate, *c) not in CIRCLES]


def wide_faults(crate, path, text):
    """Structs with too many fields in one file of a crate."""
    faults = []
    if crate not in NARROW or "tests" in path.with_suffix("").parts:
        return faults
    for found in re.finditer(r"^(?:pub(?:\([^)]*\))? )?struct (\w+)[^;{(]*\{\n(.*?)^\}", product_code(text), re.M | re.S):
        fields = len(re.findall(r"^    (?:pub(?:\([^)]*\))? )?\w+: ", found.group(2), re.M))
        if fields > MAX_FIELDS and (crate, found.group(1)) not in WIDE:
            faults.append(f"{path}: struct {found.group(1)} has {fields} fields, {MAX_FIELDS} at most")
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
    crates = {}
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        path = Path(name)
        try:
            text = (top / path).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted but not committed yet
        faults += text_faults(path, text)
        if path.suffix == ".rs":
            faults += rust_faults(path, text)
            if len(path.parts) > 3 and path.parts[0] == "crates" and path.parts[2] == "src":
                crates.setdefault(path.parts[1], {})[Path(*path.parts[3:])] = text
                faults += wide_faults(path.parts[1], path, text)
    for crate, files in sorted(crates.items()):
        faults += circle_faults(crate, files)
    return faults


def main():
    faults = faults_in(Path(__file__).resolve().parent.parent)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
