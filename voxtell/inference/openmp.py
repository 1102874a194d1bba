"""How long torch's threads spin before they sleep. To be imported before torch, whose OpenMP reads it once.

By default they spin for milliseconds. Where another program has one of the cores, all wait for the thread that shares
it, which by then has used up its time by spinning: a CT that takes 3 s took 41 to 93 s. Threads that sleep at once
take 5 s on two cores of their own. In between lies what costs a tenth there: 3.3 s, and 12 s beside another program.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
