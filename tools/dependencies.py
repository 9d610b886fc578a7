#!/usr/bin/env python3
"""What the program is made of: checks the licences and sources of its dependencies, and writes them down for a release.

    dependencies.py check             fail if a licence or a source is not allowed
    dependencies.py sbom FILE         a bill of materials, CycloneDX 1.5
    dependencies.py licences FILE     the licence texts of all that is in the program

Only the standard library and what `cargo metadata` prints, so that it is quick and needs no network. Tested by test_dependencies.py.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# Licences that ask for no more than to be named, and MPL-2.0, which asks for changes of its own files to be given.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0",
    "ISC", "MIT", "MIT-0", "MPL-2.0", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib",
}
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
TEXTS = re.compile(r"(licen[cs]e|copying|notice|copyright|unlicense)", re.I)


def allowed(expression):
    """Whether an SPDX expression can be kept with allowed licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def either():
        nonlocal position
        value = both()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            value = both() or value
        return value

    def both():
        nonlocal position
        value = one()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            value = one() and value
        return value

    def one():
        nonlocal position
        if tokens[position] == "(":
            position += 1
            value = either()
            position += 1
            return value
        name = tokens[position]
        position += 1
        if tokens[position : position + 1] == ["WITH"]:
            name += " WITH " + tokens[position + 1]
            position += 2
        return name in ALLOWED

    return bool(tokens) and either()


def faults(packages):
    """What is wrong with packages as `cargo metadata` describes them; ours have no source."""
    found = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] is None:
            continue
        if package["source"] != CRATES_IO:
            found.append(f"{name}: comes from {package['source']}, not from crates.io")
        if not package["license"]:
            found.append(f"{name}: names no licence")
        elif not allowed(package["license"]):
            found.append(f"{name}: {package['license']} is not among the licences allowed")
    return found


def in_program(metadata, root="ingress"):
    """The packages that are compiled into the program, without those for building and testing, sorted by name."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    todo = [package["id"] for package in metadata["packages"] if package["name"] == root and package["source"] is None]
    found = set()
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += [d["pkg"] for d in nodes[current]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
    return sorted((packages[i] for i in found), key=lambda p: (p["name"], p["version"]))


def sbom(packages, version):
    """CycloneDX 1.5."""
    components = [
        {
            "type": "library", "name": p["name"], "version": p["version"], "purl": f"pkg:cargo/{p['name']}@{p['version']}",
            "licenses": [{"expression": p["license"].replace("/", " OR ")}],
        }
        for p in packages if p["source"]
    ]
    program = {"type": "application", "name": "livekit-ingress", "version": version, "licenses": [{"license": {"id": "Apache-2.0"}}]}
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": program}, "components": components}


def licence_texts(packages):
    """Each package with the licence files in its source."""
    parts = []
    for package in packages:
        if not package["source"]:
            continue
        files = sorted(f for f in Path(package["manifest_path"]).parent.iterdir() if f.is_file() and TEXTS.match(f.name))
        head = f"{package['name']} {package['version']} ({package['license']})"
        parts.append("\n\n".join(["=" * 100, head, *(f.read_text(errors="replace").strip() for f in files)]))
    return "\n\n".join(parts) + "\n"


def main(arguments):
    platform = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.split("host: ")[1].split()[0]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", platform]
    metadata = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    packages = in_program(metadata)
    match arguments:
        case ["check"]:
            found = faults(metadata["packages"])
            print(*found, sep="\n", end="\n" if found else "")
            return 1 if found else 0
        case ["sbom", file]:
            version = next(p["version"] for p in packages if p["name"] == "ingress")
            Path(file).write_text(json.dumps(sbom(packages, version), indent=1) + "\n")
        case ["licences", file]:
            Path(file).write_text(licence_texts(packages))
        case _:
            sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
