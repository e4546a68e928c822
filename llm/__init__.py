"""From raw text to a served language model."""

import os

# How long torch's CPU threads spin for their next work before they sleep. The next is mostly 20
# microseconds away, and waking up takes as long: asleep, training takes 1.5 times as long on two idle
# cores. Without an end, beside any other busy process (a server, a browser), it loses up to nine
# tenths of its speed; with this one, a fifth. libgomp reads it when torch is first imported, which is
# always after this package.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1500")
