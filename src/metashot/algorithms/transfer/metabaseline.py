"""Meta-Baseline: Chen, Liu, Xu, Darrell, Wang 2021, "Meta-baseline: exploring simple meta-learning for few-shot learning",
arXiv:2003.04390.

A backbone that was trained to tell all training classes apart (`algo=baseline`, given with `init_from`) is trained further:
now on episodes, as a prototypical network that compares by cosines divided by a learned temperature.
"""

from metashot.algorithms.metric.protonet import ProtoNet


class MetaBaseline(ProtoNet):
    needs_start = True
