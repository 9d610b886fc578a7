"""Plants each violation that tidy.py looks for: it must find it, and must leave the lawful neighbour alone."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import tidy


def metadata(**crates):
    """`cargo metadata` of crates, each with its dependencies by name; a trailing ! marks one for tests."""
    return {
        "packages": [
            {
                "name": name,
                "dependencies": [{"name": d.rstrip("!"), "kind": "dev" if d.endswith("!") else None} for d in dependencies],
            }
            for name, dependencies in crates.items()
        ]
    }


class Dependencies(unittest.TestCase):
    def check(self, expected, **crates):
        faults = tidy.dependency_faults(metadata(**crates))
        self.assertEqual(len(faults), 1 if expected else 0, faults)
        if expected:
            self.assertIn(expected, faults[0])

    def test_rooms(self):
        self.check(None, model=["serde"], rtmp=["model", "bytes"])
        self.check("rtmp: may not depend on session", rtmp=["session"], session=[])
        self.check("service: may not depend on transcode", service=["transcode"], transcode=[])
        self.check("model: may not depend on ipc", model=["ipc"], ipc=[])
        self.check("shed: has no line", shed=[])

    def test_only_tests_may_look_further(self):
        self.check(None, psrpc=["proto!"], proto=[])
        self.check("psrpc: may not depend on proto", psrpc=["proto"], proto=[])

    def test_nobody_depends_on_what_stands_outside(self):
        self.check(None, fuzz=["rtmp"], rtmp=[])
        self.check("rtmp: may not depend on fuzz", fuzz=[], rtmp=["fuzz!"])

    def test_libraries_of_one_room(self):
        self.check(None, rtc=["str0m"])
        self.check("publish: str0m is named only in rtc", publish=["str0m"])
        self.check("session: gstreamer-app is named only in demux and transcode and worker", session=["gstreamer-app"])
        self.check("service: redis is named only in psrpc", service=["redis"])
        self.check("service: clap is named only in ingress", service=["clap"])


class RustFiles(unittest.TestCase):
    def check(self, expected, path, text):
        faults = tidy.rust_faults(Path(path), text)
        self.assertEqual(len(faults), 1 if expected else 0, faults)
        if expected:
            self.assertIn(expected, faults[0])

    def test_opening_words(self):
        self.check(None, "crates/rtmp/src/amf.rs", "//! AMF0.\n")
        self.check("opens with //!", "crates/rtmp/src/amf.rs", "use bytes::Bytes;\n")

    def test_mod_rs(self):
        self.check("not in foo/mod.rs", "crates/rtmp/src/amf/mod.rs", "//! AMF0.\n")

    def test_unsafe(self):
        self.check(None, "crates/rtmp/src/lib.rs", "//! RTMP.\n#![forbid(unsafe_code)]\n")
        self.check("lacks #![forbid(unsafe_code)]", "crates/rtmp/src/lib.rs", "//! RTMP.\n")

    def test_size_counts_code_alone(self):
        code = "let a = 1;\n" * tidy.MAX_CODE_LINES
        self.check(None, "crates/rtmp/src/a.rs", "//! A.\n\n// why\n" + code + "#[cfg(test)]\nmod tests {\n" + code + "}\n")
        self.check("lines of code", "crates/rtmp/src/a.rs", "//! A.\n" + code + "let b = 2;\n")
        self.check(None, "crates/rtmp/src/a/tests.rs", "//! A.\n" + code + code)


class Circles(unittest.TestCase):
    def check(self, expected, **files):
        faults = tidy.circle_faults("rtmp", {Path(name.replace("__", "/") + ".rs"): text for name, text in files.items()})
        self.assertEqual(len(faults), 1 if expected else 0, faults)
        if expected:
            self.assertIn(expected, faults[0])

    def test_two_files(self):
        self.check(None, a="use crate::b::B;\n", b="pub struct B;\n")
        self.check("a.rs, b.rs", a="use crate::b::B;\n", b="use crate::a::A;\n")
        self.check("a.rs, b.rs", a="use crate::{Error, b::{B, C}};\n", b="fn f(a: &super::a::A) {}\n")

    def test_three_files(self):
        self.check("a.rs, b.rs, c.rs", a="use super::b::B;\n", b="use super::c::C;\n", c="use super::a::A;\n")

    def test_what_is_no_circle(self):
        self.check(None, a="mod b;\nuse b::B;\n", a__b="use super::A;\n")
        self.check(None, lib="use crate::a::A;\n", a="use crate::Error;\n")
        self.check(None, a="use crate::b::B;\n", b="// crate::a::A\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n")
        self.check(None, a="use crate::b::B;\n", b="pub struct B;\n", b__tests="use crate::a::A;\n")


class WideStructs(unittest.TestCase):
    def check(self, expected, crate, fields):
        text = "pub struct S {\n" + "".join(f"    /// f.\n    pub f{n}: u8,\n" for n in range(fields)) + "}\n"
        faults = tidy.wide_faults(crate, Path(f"crates/{crate}/src/a.rs"), text)
        self.assertEqual(len(faults), 1 if expected else 0, faults)

    def test_width(self):
        self.check(False, "session", tidy.MAX_FIELDS)
        self.check(True, "session", tidy.MAX_FIELDS + 1)
        self.check(False, "rtc", tidy.MAX_FIELDS + 1)


class Texts(unittest.TestCase):
    def check(self, expected, path, text):
        faults = tidy.text_faults(Path(path), text)
        self.assertEqual(len(faults), 1 if expected else 0, faults)
        if expected:
            self.assertIn(expected, faults[0])

    def test_machine_paths(self):
        home = "/".join(["", "home", "ada", "ingress"])
        self.check(None, "README.md", "see crates/work/list and https://example.org/root/x and $HOME/root/x")
        self.check("README.md:2", "README.md", f"a\nb {home} c")
        self.check("a path of somebody's machine", "a.rs", "/".join(["", "root", ".cache"]))

    def test_length_of_the_architecture(self):
        self.check(None, "ARCHITECTURE.md", "line\n" * tidy.MAX_ARCHITECTURE_LINES)
        self.check("200 at most", "ARCHITECTURE.md", "line\n" * (tidy.MAX_ARCHITECTURE_LINES + 1))


class Checkout(unittest.TestCase):
    def test_a_violation_in_a_real_workspace_is_found(self):
        with tempfile.TemporaryDirectory() as name:
            top = Path(name)
            (top / "Cargo.toml").write_text('[workspace]\nresolver = "3"\nmembers = ["crates/*"]\n')
            for crate, dependencies in {"model": "", "ipc": 'model = { path = "../model" }\n'}.items():
                (top / "crates" / crate / "src").mkdir(parents=True)
                manifest = f'[package]\nname = "{crate}"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n{dependencies}'
                (top / "crates" / crate / "Cargo.toml").write_text(manifest)
                (top / "crates" / crate / "src/lib.rs").write_text("//! Words.\n#![forbid(unsafe_code)]\n")
            subprocess.run(["git", "init", "-q"], cwd=top, check=True)
            self.assertEqual(tidy.faults_in(top), [])
            (top / "crates/model/src/lib.rs").write_text("pub fn f() {}\n")
            (top / "crates/ipc/Cargo.toml").write_text(manifest.replace('name = "ipc"', 'name = "attic"'))
            self.assertEqual(len(tidy.faults_in(top)), 3)


if __name__ == "__main__":
    unittest.main()
