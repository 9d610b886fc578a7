"""What `./x package` makes: the Debian package and the tarball hold what they should, and the unit's command is in them."""

import gzip
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from rig.stack import ingress_binary

TOP = Path(__file__).parent.parent
FILES = {
    "usr/bin/ingress", "usr/lib/systemd/system/livekit-ingress.service", "usr/share/bash-completion/completions/ingress",
    "usr/share/zsh/vendor-completions/_ingress", "usr/share/fish/vendor_completions.d/ingress.fish", "usr/share/man/man1/ingress.1.gz",
    "usr/share/doc/livekit-ingress/copyright", "usr/share/doc/livekit-ingress/THIRD-PARTY.gz", "usr/share/doc/livekit-ingress/config-sample.yaml",
}


def says(*command, **how):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **how).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files; the program is the one under test."""
    directory = tmp_path_factory.mktemp("dist")
    says(TOP / "tools" / "package.sh", ingress_binary(), directory)
    return list(directory.iterdir())


@pytest.fixture(scope="module")
def unpacked(made, tmp_path_factory):
    directory = tmp_path_factory.mktemp("deb")
    [deb] = [file for file in made if file.suffix == ".deb"]
    says("dpkg-deb", "--raw-extract", deb, directory)
    return directory


def test_checksums_fit(made):
    [sums] = [file for file in made if file.name == "SHA256SUMS"]
    assert says("sha256sum", "-c", sums, cwd=sums.parent).count(": OK") == 3


def test_the_tarball_has_everything(made):
    [tarball] = [file for file in made if file.name.endswith(".tar.gz")]
    with tarfile.open(tarball) as tar:
        members = {member.name.partition("/")[2]: member for member in tar if member.isfile()}
    assert set(members) >= FILES
    assert {member.uid for member in members.values()} == {0}


def test_the_debian_package(unpacked):
    assert {name for name in FILES if not (unpacked / name).is_file()} == set()
    control = (unpacked / "DEBIAN" / "control").read_text()
    for needed in ("libc6", "libgstreamer1.0-0", "libssl3", "gstreamer1.0-libav", "gstreamer1.0-plugins-ugly"):
        assert needed in control, control
    # A configuration holds a secret.
    assert (unpacked / "etc" / "livekit-ingress" / "config.yaml").stat().st_mode & 0o777 == 0o640
    for script in ("postinst", "prerm", "postrm"):
        says("sh", "-n", unpacked / "DEBIAN" / script)


def test_the_unit_fits_the_package(unpacked):
    unit = (unpacked / "usr/lib/systemd/system/livekit-ingress.service").read_text()
    program = re.search(r"^ExecStart=/(\S+)", unit, re.M).group(1)
    assert (unpacked / program).stat().st_mode & 0o111
    config = re.search(r"INGRESS_CONFIG_FILE=/(\S+)", unit).group(1)
    assert (unpacked / config).is_file()
    # What the package brings is understood, and only the keys are missing.
    done = subprocess.run([unpacked / program, "check-config", "--strict", "--config", unpacked / config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 78 and "api_key" in done.stderr and "api_secret" in done.stderr, done.stderr
    user = re.search(r"^User=(\S+)", unit, re.M).group(1)
    assert f" {user}\n" in (unpacked / "DEBIAN" / "postinst").read_text()


def test_manual_and_completions(unpacked):
    page = gzip.decompress((unpacked / "usr/share/man/man1/ingress.1.gz").read_bytes()).decode()
    assert ".TH ingress 1" in page
    for name in FILES:
        if "completion" in name:
            assert "check-config" in (unpacked / name).read_text(), name


def test_the_bill_of_materials_names_the_libraries(made):
    [bill] = [file for file in made if file.name.endswith(".cdx.json")]
    names = {component["name"] for component in json.loads(bill.read_text())["components"]}
    assert {"tokio", "str0m", "rustls", "gstreamer"} <= names and "proptest" not in names
