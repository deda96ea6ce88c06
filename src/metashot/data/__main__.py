"""python -m metashot.data data=NAME: describe a data set and picture one of its episodes."""

from metashot.commands.scripts import data
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    data()
