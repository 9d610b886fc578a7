"""Imitates another kernel: runs a program whose system calls of these numbers fail with this error.

    no_calls.py ERRNO NUMBER[,NUMBER…] PROGRAM ARGUMENTS…
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD_NUMBER, EQUAL, RETURN = 0x20, 0x15, 0x06

LANDLOCK = (444, 445, 446)  # landlock_create_ruleset, landlock_add_rule, landlock_restrict_self
SECCOMP = (317,)  # seccomp, x86_64


def wrap(errno, numbers):
    """The command to start a program through."""
    return (sys.executable, __file__, str(errno), ",".join(map(str, numbers)))


def refuse(errno, numbers):
    """A filter of classic BPF: the number is compared with each, and all else is allowed."""
    program = [(LOAD_NUMBER, 0, 0, 0)]
    for left, number in zip(range(len(numbers), 0, -1), numbers):
        program.append((EQUAL, left, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    # struct sock_fprog: the count, padding, the pointer.
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}")


if __name__ == "__main__":
    refuse(int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")])
    os.execv(sys.argv[3], sys.argv[3:])
