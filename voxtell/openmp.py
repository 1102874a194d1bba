"""How torch's threads wait for each other: asleep. To be imported before torch, whose OpenMP reads it once.

By default a thread that is done spins until the others are. Where another program has one of the cores, all wait for
the thread that shares it, which by then has used up its time by spinning: a CT that takes 6 s took 41 and 53 s.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
