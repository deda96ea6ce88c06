"""MAML: Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks", arXiv:1703.03400.

Every task starts from the same meta-parameters theta and takes a few gradient steps of size alpha on its support set. The
query loss of the adapted parameters theta' is then differentiated through these steps with respect to theta, which the outer
optimiser updates. As in the paper, batch normalisation uses the statistics of the current batch, so results are transductive
unless another protocol is chosen.

Three variants are configurations of the same class: `fomaml` uses the gradient at theta' as the gradient at theta
(`first_order`); `anil` (Raghu et al. 2020, arXiv:1909.09157) adapts only the head and `boil` (Oh et al. 2021,
arXiv:2008.08882) only the body (`adapts`).

Drawings have the papers' inner rate for Omniglot (0.4, one step), photographs the papers' settings for miniImageNet (0.01
and five steps, ten in tests; BOIL 0.5 and one step), both for 5-way 1-shot: conf/algo and conf/paper/photographs. Where this
departs from the papers: the outer rate decays to zero along a cosine; on drawings it is 0.003 instead of 0.001, tests take
five steps instead of three, FOMAML and ANIL take five shorter steps (0.1 and 0.2), and BOIL has MAML's step.
"""

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.engines.inner import Parameters


class MAML(GradientLearner):
    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)
