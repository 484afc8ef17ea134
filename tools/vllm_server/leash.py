"""Runs a command that gets SIGTERM when the process that started it ends, by kill -9 too (on Linux).

leash.py PARENT COMMAND…, where PARENT is the id of the process that starts it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # stands over execv
if os.getppid() != int(sys.argv[1]):
    sys.exit("leash: the process that started it has ended")
os.execv(sys.argv[2], sys.argv[2:])
