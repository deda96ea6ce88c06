"""python -m metashot.data data=NAME: what a data set has, and a picture of one of its episodes."""

from typing import Any

from omegaconf import DictConfig

from metashot.command_line import run_script


def main(config: DictConfig) -> Any:
    # Imported late: --help and a mistyped key are answered at once.
    from metashot.commands.look import look_at_data

    return look_at_data(config)


if __name__ == "__main__":
    run_script(main, config_name="look", stored={}, groups=("data",), keys=(), parts={})
