"""python -m metashot.page [ckpt=RUN]: a page in the browser that learns classes from a few images, and names others."""

from metashot.commands.scripts import page
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    page()
