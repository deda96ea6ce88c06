"""Starts scripts in processes that need not import torch, which takes six seconds, nor anything else.

At the end of a test they time one task instead of ten: how long it took is compared with nothing. At each validation, what
looks familiar is learned from a tenth of the simulated tasks, which take longer than such a training itself.
"""

import importlib

import metashot.algorithms.closed_form.logistic
import metashot.algorithms.closed_form.r2d2
import metashot.algorithms.closed_form.svm
import metashot.algorithms.familiarity
import metashot.algorithms.generative.gan
import metashot.algorithms.generative.vae
import metashot.algorithms.gradient.average
import metashot.algorithms.gradient.finetune
import metashot.algorithms.gradient.mamlpp
import metashot.algorithms.gradient.metasgd
import metashot.algorithms.memory.snail
import metashot.algorithms.metric.feat
import metashot.algorithms.metric.matching
import metashot.algorithms.metric.prompted
import metashot.algorithms.metric.protonet
import metashot.algorithms.metric.relation
import metashot.algorithms.metric.siamese
import metashot.algorithms.model.anp
import metashot.algorithms.model.cnaps
import metashot.algorithms.model.cnp
import metashot.algorithms.model.hyper
import metashot.algorithms.model.leo
import metashot.algorithms.model.mann
import metashot.algorithms.model.metalstm
import metashot.algorithms.transductive.laplacianshot
import metashot.algorithms.transductive.ptmap
import metashot.algorithms.transductive.tim
import metashot.algorithms.transfer.baseline
import metashot.algorithms.transfer.baselinepp
import metashot.algorithms.transfer.metabaseline
import metashot.backbones.conv4
import metashot.backbones.mlp
import metashot.commands.evaluate
import metashot.commands.look
import metashot.commands.page
import metashot.commands.predict
import metashot.commands.scripts
import metashot.commands.train
import metashot.data.class_episodes
import metashot.data.regression
import metashot.engines.choice
import metashot.evaluation.timing
import metashot.sources.curves.gaussian_process
import metashot.sources.curves.sinusoid
import metashot.sources.images.folder
import metashot.sources.images.glyphs
import metashot.sources.images.miniimagenet
import metashot.sources.images.omniglot
import metashot.tracking.options
from metashot.engines.learn2learn import _library

from .forking import launch

# What scripts import on their way.
LATER = (
    "fsspec.implementations.chained",
    "hydra._internal.logging_config",
    "rich._emoji_codes",
    "torch.utils.serialization.config",
)

if __name__ == "__main__":
    metashot.evaluation.timing._WARM_UP, metashot.evaluation.timing._TIMED = 0, 1
    metashot.algorithms.familiarity._TASKS = 10
    _library()
    for module in LATER:
        importlib.import_module(module)
    launch()
