"""MAML: Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks", arXiv:1703.03400.

The network starts every task from the same meta-parameters theta and takes a few gradient steps of size alpha on the
support set. The loss of the adapted parameters theta' on the queries is then differentiated through those steps, back to
theta, which the outer optimiser moves. As in the paper, batch normalisation uses the statistics of the batch at hand, so
its results are transductive unless another protocol is chosen.

The same file serves its relatives by configuration: `fomaml` takes the gradient at theta' for that at theta
(`first_order`); `anil` (Raghu et al. 2020, arXiv:1909.09157) adapts the head alone and `boil` (Oh et al. 2021,
arXiv:2008.08882) the body alone (`adapts`).

Drawings have the papers' inner rate for Omniglot (0.4, one step), photographs those for miniImageNet (0.01 and five steps,
ten in tests; BOIL 0.5 and one step), both for 5-way 1-shot: conf/algo and conf/paper/photographs. Where this departs from
the papers: the outer rate falls to zero along a cosine; on drawings it is 0.003 instead of 0.001, five steps are taken in
tests instead of three, FOMAML and ANIL take five shorter steps (0.1 and 0.2), and BOIL has MAML's step.
"""

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.engines.inner import Parameters


class MAML(GradientLearner):
    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)
