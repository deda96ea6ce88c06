"""Weights & Biases: online with credentials and a server that answers, otherwise offline in the run's folder."""

import netrc
import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from pytorch_lightning.loggers import WandbLogger

from metashot.run_folder import write_text

_SERVER = "https://api.wandb.ai"
_PATIENCE = 5  # seconds a server has to answer before training goes on without it
_FAREWELL = 60  # seconds the last upload may take

Mode = Literal["auto", "online", "offline"]


def open_wandb(
    folder: Path, project: str, entity: str | None, group: str | None, tags: list[str], mode: Mode
) -> tuple[WandbLogger, str]:
    """The logger of a run, and the line that says how to look at it. A resumed run keeps its identity."""
    import wandb

    online, reason = _wants_online(mode)
    settings = wandb.Settings(silent=True, console="off", init_timeout=3 * _PATIENCE, finish_timeout=_FAREWELL)
    arguments: dict[str, Any] = {
        "name": folder.name,
        "project": project,
        "entity": entity,
        "group": group,
        "tags": tags,
        "save_dir": folder,
        "id": _identity(folder),
        "settings": settings,
    }
    before = os.environ.get("WANDB_MODE")
    logger = None
    if online:
        try:
            logger = WandbLogger(**arguments)
            _ = logger.experiment
        except Exception as error:  # whatever wandb raises, training goes on
            logger, reason = None, f"{_server()} refused the run: {_first_line(error)}"
    if logger is None:
        logger = WandbLogger(offline=True, **arguments)
        _ = logger.experiment
        # Lightning sets the variable for the whole process, which would reach the next job of a sweep.
        _restore("WANDB_MODE", before)
    return logger, _how_to_look(logger, folder, reason)


def _how_to_look(logger: WandbLogger, folder: Path, reason: str) -> str:
    run = logger.experiment
    if url := getattr(run, "url", None):
        return f"W&B: online at {url}"
    written = Path(run.dir).parent
    return f"W&B: offline ({reason}); upload with `wandb sync {written}`, or look with `wandb leet {written}`"


def _wants_online(mode: Mode) -> tuple[bool, str]:
    """Whether to try the server, and why not."""
    wished = os.environ.get("WANDB_MODE", "online") if mode == "auto" else mode
    if wished != "online":
        return False, "as was asked for"
    if not _has_credentials():
        return False, "no credentials: `wandb login` makes the next run online"
    if not _answers(_server()):
        return False, f"{_server()} cannot be reached"
    return True, ""


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", _SERVER).rstrip("/")


def _answers(server: str) -> bool:
    request = urllib.request.Request(server, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError:
        return True  # it answered, if only to say no
    except (OSError, ValueError):
        return False
    return True


def _identity(folder: Path) -> str:
    """The run's id at W&B, made once and kept in its folder."""
    file = folder / "wandb" / "run-id"
    if not file.is_file():
        write_text(file, secrets.token_hex(4))
    return file.read_text().strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
