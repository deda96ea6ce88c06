"""Variables by which torchrun, srun and Lightning tell a process that it is one of several: in a shell they are left over.

A process that believes them waits for others that nobody started, or takes itself for one that must not print.
"""

import os

from metashot.bad_input import BadInput

RUN_FOLDER = "METASHOT_RUN_FOLDER"  # how the processes that Lightning starts learn where their run is kept
# What each of them sets in every process that it starts. What is missing tells a variable that was left over.
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LIGHTNING = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SRUN = ("SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")
_SUBMITIT = ("SUBMITIT_EXECUTOR", "SUBMITIT_LOCAL_JOB_ID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_GLOBALID")
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
_NUMBERS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
_INTERACTIVE = ("bash", "interactive")  # names of SLURM's jobs that are a shell, as Lightning knows them


def refuse_leftovers() -> None:
    """Refuse what promises other processes without being complete; forget what says of one process that it is alone."""
    if not is_child_of_lightning():
        os.environ.pop(RUN_FOLDER, None)  # of another run, which this one would write into
    if _all_set(_SRUN) or (os.environ.get("SUBMITIT_EXECUTOR") == "local" and _all_set(_SUBMITIT)):
        return
    _refuse_slurm()
    if _all_set(_TORCHRUN) or is_child_of_lightning():
        return
    alone = dict.fromkeys(_RANKS, "0") | dict.fromkeys(_NUMBERS, "1")
    wrong = [f"{name}={os.environ[name]}" for name in alone if os.environ.get(name, alone[name]) != alone[name]]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        wrong.append(f"TORCHELASTIC_RUN_ID={os.environ['TORCHELASTIC_RUN_ID']}")
    if wrong:
        missing = ", ".join(name for name in _TORCHRUN if name not in os.environ) or "what Lightning sets with it"
        names = " ".join(given.partition("=")[0] for given in wrong)
        raise BadInput(
            f"{', '.join(wrong)} in the environment says that this process is one of several, but torchrun did not start it "
            f"(it would set {missing} too): unset {names}, or start all processes with torchrun"
        )
    for name in (*alone, "MASTER_ADDR", "MASTER_PORT"):  # Lightning would wait for others, or elsewhere
        os.environ.pop(name, None)


def is_child_of_lightning() -> bool:
    """Whether the first process of this run has started this one, and is the one to end it."""
    return (
        _all_set(_LIGHTNING)
        and os.environ["LOCAL_RANK"] != "0"
        and not any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "SUBMITIT_EXECUTOR"))
        and not _all_set(_SRUN)
    )


def is_step_of_slurm() -> bool:
    """Whether srun started this process, and not a shell or a batch script that SLURM gave room for several."""
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
