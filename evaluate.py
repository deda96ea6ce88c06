"""Score checkpoints on episodes: `python evaluate.py ckpt=RUN`, or several on the same ones: `ckpt=[RUN1,RUN2]`."""

from metashot.commands.scripts import evaluate
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    evaluate()
