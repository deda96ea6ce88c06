"""Train a few-shot learner, test its best checkpoint, and write the report."""

from metashot.commands.scripts import train
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    train()
