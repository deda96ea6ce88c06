"""Meta-Baseline: Chen, Liu, Xu, Darrell, Wang 2021, "Meta-baseline: exploring simple meta-learning for few-shot learning",
arXiv:2003.04390.

A backbone that was trained to classify all training classes (`algo=baseline`, given with `init_from`) is trained further on
episodes, as a prototypical network with cosine similarities divided by a learned temperature.
"""

from metashot.algorithms.metric.protonet import ProtoNet


class MetaBaseline(ProtoNet):
    needs_start = True
