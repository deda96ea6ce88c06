"""Leftovers of torchrun, srun and Lightning in the environment of a shell, which say that a process is one of several.

A process that believed them would wait for processes that nobody started, or would not print.
"""

import os

from metashot.bad_input import BadInput

RUN_FOLDER = "METASHOT_RUN_FOLDER"  # tells the processes that Lightning starts the folder of their run
# The variables that each launcher sets in all its processes. If some are missing, the others are leftovers.
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LIGHTNING = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SRUN = ("SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")
_SUBMITIT = ("SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_JOB_ID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_GLOBALID")
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
_SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs that are shells, as in Lightning


def refuse_leftovers() -> None:
    """Refuse incomplete variables of a launcher that mean several processes; drop those that mean a single process.

    Raises:
        BadInput: variables say that there are other processes, but no launcher has started this one.
    """
    if not is_child_of_lightning():
        os.environ.pop(RUN_FOLDER, None)  # of another run, into whose folder this one would write
    if _all_set(_SRUN) or (os.environ.get("SUBMITIT_EXECUTOR") == "local" and _all_set(_SUBMITIT)):
        return
    _refuse_slurm()
    if _all_set(_TORCHRUN) or is_child_of_lightning():
        return
    single = dict.fromkeys(_RANKS, "0") | dict.fromkeys(_SIZES, "1")
    wrong = [f"{name}={os.environ[name]}" for name in single if os.environ.get(name, single[name]) != single[name]]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        wrong.append(f"TORCHELASTIC_RUN_ID={os.environ['TORCHELASTIC_RUN_ID']}")
    if wrong:
        missing = ", ".join(name for name in _TORCHRUN if name not in os.environ) or "the other variables of Lightning"
        names = " ".join(given.partition("=")[0] for given in wrong)
        raise BadInput(
            f"{', '.join(wrong)} in the environment says that this process is one of several, but torchrun did not start it "
            f"(it would set {missing} too): unset {names}, or start all processes with torchrun"
        )
    for name in (*single, "MASTER_ADDR", "MASTER_PORT"):  # with which Lightning would wait for other processes
        os.environ.pop(name, None)


def is_child_of_lightning() -> bool:
    """Whether the first process of this run started this one, and will end it."""
    return (
        _all_set(_LIGHTNING)
        and os.environ["LOCAL_RANK"] != "0"
        and not any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "SUBMITIT_EXECUTOR"))
        and not _all_set(_SRUN)
    )


def is_step_of_slurm() -> bool:
    """Whether srun started this process, rather than a shell or a batch script in an allocation for several tasks."""
    return _all_set(_SRUN) and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE


def _refuse_slurm() -> None:
    given = os.environ.get("SLURM_NTASKS", "1")
    if given == "1" or os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return
    missing = ", ".join(name for name in _SRUN if name not in os.environ)
    raise BadInput(
        f"SLURM_NTASKS={given} in the environment says that this process is one of several, but srun did not start it "
        f"(it would set {missing} too): unset SLURM_NTASKS, or start it with srun"
    )


def _all_set(names: tuple[str, ...]) -> bool:
    return all(name in os.environ for name in names)
