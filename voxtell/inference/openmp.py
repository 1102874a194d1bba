"""Sets how long torch's threads spin before they sleep. Import it before torch, whose OpenMP reads the setting once.

By default idle threads spin for milliseconds. Where another program has one of the cores, all threads wait for the one
that shares it, and that one has used up its time slice by spinning: a CT that takes 3 s then took 41 to 93 s. Threads
that sleep at once take 5 s on two cores of their own. The value here is in between and costs a tenth: 3.3 s alone, and
12 s beside another program.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
