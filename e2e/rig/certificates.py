"""Certificates for tests."""

import subprocess


def certify(certificate, key, name, *extensions):
    """Writes a certificate for `name`, signed by itself, and its key; both PEM. `extensions` as openssl's -addext has them."""
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()
    more = [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run([*request, "-subj", f"/CN={name}", *more, "-out", certificate, "-keyout", key], check=True, capture_output=True)
