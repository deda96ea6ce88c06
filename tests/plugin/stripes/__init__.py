"""A plug-in of metashot: `python train.py plugins=[stripes] algo=cityblock data=stripes`."""
