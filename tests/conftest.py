"""What all tests share: one thread for torch (two workers on two cores), the golden cases."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
