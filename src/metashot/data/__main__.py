"""python -m metashot.data data=NAME: what a data set has, and a picture of one of its episodes."""

from typing import Any

from omegaconf import DictConfig

from metashot.commands.command_line import run_script
from metashot.commands.refusals import refuse_looking
from metashot.configuration import plain


def main(config: DictConfig) -> Any:
    refuse_looking(plain(config))  # before the next line imports torch, which takes seconds
    from metashot.commands.look import look_at_data

    return look_at_data(config)


if __name__ == "__main__":
    run_script(main, config_name="look", stored={}, groups=("data",), keys=(), parts={})
