"""Requirements of training: trainable parameters, batches in the form that the algorithm needs, unseen classes."""

from typing import Any

from metashot.algorithms.base import Algorithm
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.configuration.buildable import choice_of_backbone
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule
from metashot.data.seen_classes import TrainingClasses
from metashot.sources.splitting import Split
from metashot.training.trainer import TrainerOptions


def leave_published_as_it_is(algorithm: Algorithm, options: TrainerOptions, config: dict[str, Any]) -> str | None:
    """Train for no steps where a published backbone is frozen and the algorithm has nothing else that tasks depend on.

    Returns:
        A line that tells the user; None if there is something to train.
    """
    published = any(module.is_published for module in algorithm.modules() if isinstance(module, Backbone))
    if not published or algorithm.trains_for_tasks or not options.max_steps:
        return None
    options.max_steps = 0
    return f"training: none, since algo={config['algo']['name']} has nothing to train on a frozen backbone"


def refuse_nothing_to_train(algorithm: Algorithm, options: TrainerOptions, config: dict[str, Any]) -> None:
    name = config["algo"]["name"]
    if options.max_steps and not any(parameter.requires_grad for parameter in algorithm.parameters()):
        backbone = choice_of_backbone(config["backbone"]["_target_"])
        what, advice = f"backbone={backbone}", "choose another one, such as backbone=mlp"
        if config["freeze_backbone"]:
            what, advice = "freeze_backbone=true", "leave it out"
        raise BadInput(
            f"{what} leaves algo={name} nothing to train: {advice}, or give trainer.max_steps=0 to test it as it is"
        )


def refuse_changing_features(algorithm: Algorithm, name: str) -> None:
    """Refuse a backbone whose features change, in training or with the other images, where an algorithm needs them fixed."""
    for backbone in algorithm.modules() if algorithm.needs_features else ():
        if not isinstance(backbone, Backbone):
            continue
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            raise BadInput(
                f"the backbone trains, but algo={name} makes features of one that does not: give freeze_backbone=true"
            )
        if not backbone.embeds_independently:
            raise BadInput(
                f"backbone.normalisation={backbone.normalisation} lets features depend on the other images, but algo={name} "
                "makes features of each image alone: start from a learner with backbone.normalisation=running"
            )


def refuse_other_batches(algorithm: Algorithm, data: EpisodicDataModule, name: str) -> None:
    """Refuse episodes for an algorithm that is trained on shuffled images of all classes, and the reverse."""
    if algorithm.supervised and not data.shuffled:
        raise BadInput(f"data.train.batch=null makes episodes, but algo={name} is trained on shuffled images: give a number")
    if data.shuffled and not algorithm.supervised:
        raise BadInput(
            f"data.train.batch shuffles images, but algo={name} is trained on episodes: use data.train.batch=null"
        )
    if not isinstance(data, ClassEpisodes):
        return
    sampler = data.shuffled_sampler
    if sampler is not None and sampler.size > len(sampler.labels):
        raise BadInput(
            f"data.train.batch={sampler.size} cannot be used: the training split of data={data.name} has "
            f"{len(sampler.labels)} {data.noun}; give at most as many"
        )


def refuse_seen_classes(classes: TrainingClasses, data: EpisodicDataModule, init_from: str | None) -> None:
    """Refuse validation and test classes that were seen in training, by this run or by the one that it starts from."""
    splits: tuple[Split, Split] = ("val", "test")
    for split in splits:
        classes.refuse_seen(data, split, "this run" if init_from is None else f"init_from={init_from}, or this run,")
