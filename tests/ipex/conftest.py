"""Makes waiting CPU threads sleep, because this lane runs beside others on few cores."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "2")
