#!/usr/bin/env python3
"""Tests of dependencies.py: what must be refused is refused."""

import unittest

import dependencies

REGISTRY = dependencies.CRATES_IO


def package(name, licence="MIT", source=REGISTRY):
    return {"id": name, "name": name, "version": "1.0.0", "license": licence, "source": source, "manifest_path": f"/none/{name}/Cargo.toml"}


class Licences(unittest.TestCase):
    def test_expressions(self):
        for expression in ("MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(GPL-2.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception", "MIT OR GPL-3.0 AND GPL-2.0"):
            self.assertTrue(dependencies.allowed(expression), expression)
        for expression in ("GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND AGPL-3.0", "", "Apache-2.0 WITH Something", "GPL-3.0 AND MIT OR AGPL-3.0"):
            self.assertFalse(dependencies.allowed(expression), expression)

    def test_faults(self):
        self.assertEqual(dependencies.faults([package("good"), package("ours", None, None)]), [])
        for bad, word in ((package("a", "GPL-3.0"), "GPL-3.0"), (package("b", None), "no licence"), (package("c", source="git+https://example.com/c"), "example.com")):
            self.assertIn(word, dependencies.faults([bad])[0])


class Contents(unittest.TestCase):
    def metadata(self):
        kinds = {"kept": None, "for-building": "build", "for-tests": "dev"}
        deps = [{"pkg": name, "dep_kinds": [{"kind": kind}]} for name, kind in kinds.items()]
        nodes = [{"id": "ingress", "deps": deps}, *({"id": name, "deps": []} for name in kinds)]
        return {"packages": [package("ingress", "Apache-2.0", None), *map(package, kinds)], "resolve": {"nodes": nodes}}

    def test_only_what_is_in_the_program(self):
        self.assertEqual([p["name"] for p in dependencies.in_program(self.metadata())], ["ingress", "kept"])

    def test_the_bill_names_what_others_made(self):
        bill = dependencies.sbom(dependencies.in_program(self.metadata()), "1.2.3")
        self.assertEqual([c["purl"] for c in bill["components"]], ["pkg:cargo/kept@1.0.0"])
        self.assertEqual(bill["metadata"]["component"]["version"], "1.2.3")


if __name__ == "__main__":
    unittest.main()
