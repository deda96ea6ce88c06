"""python -m metashot.predict ckpt=RUN support=FOLDER query=FOLDER: learn classes from a few images, and classify others."""

from metashot.commands.scripts import predict
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    predict()
