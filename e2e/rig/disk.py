"""A disk that is full: a file system of its own for one program, in a directory that holds no more than is said."""

import os


def small_disk(directory, size):
    """What a program is started through that sees a file system of `size` (as mount takes it: "64k") in `directory`, which is its
    TMPDIR; nobody else sees it. Needs a kernel that gives this user a mount namespace."""
    directory.mkdir()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount"]
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
    return (*unshare, "env", f"TMPDIR={directory}", "sh", "-c", script, "sh", size, str(directory))
