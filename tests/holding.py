"""A training that waits at its first checkpoint, so that a test can end it there however slow it is."""

from pathlib import Path

HOLD = """
import os, signal, threading, time

rename, register, ending = os.replace, signal.signal, threading.Event()

def replace(source, target):
    rename(source, target)
    if os.path.basename(target).startswith("step-"):
        while not (ending.is_set() or os.path.exists({go!r})):
            time.sleep(0.01)

def handle(number, handler):
    def noted(*given):
        ending.set()
        handler(*given)
    return register(number, noted if callable(handler) else handler)

os.replace, signal.signal = replace, handle
"""


def hold(folder: Path, go: Path) -> str:
    """A PYTHONPATH, in `folder`, by which a training waits until there is `go` or it is told to end.

    It is the checkpoint's writer that stays where it is; training waits for that before it writes
    the next one, or ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOLD.format(go=str(go)))
    return str(folder)
