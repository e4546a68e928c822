"""From raw text to a served language model."""

import os

# torch's CPU threads wait asleep, not spinning: beside any other busy process (a server, a
# browser) a spinning team loses up to nine tenths of its speed. libgomp reads this when torch
# is first imported, which is always after this package.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
