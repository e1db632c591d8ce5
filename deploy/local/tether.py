"""
A launcher for a program that dies with its parent: `tether.py PARENT SIGNAL UID:GID|- PROGRAM ARGUMENT...`.

It is a program of its own: code between fork and exec of a process with threads may hang. It also changes the
account: the kernel drops the parent-death signal when the account changes, and the other account may not be allowed
to enter Python's folder. On systems without prctl a program outlives a supervisor that was killed with SIGKILL. It
imports nothing that is slow to load.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, signal, account, *command = sys.argv[1:]
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if prctl:
        prctl(PR_SET_PDEATHSIG, int(signal))
        if os.getppid() != int(parent):  # it died before the wish was made
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  no shell is wanted
