"""Weights & Biases runs: online if there are credentials and the server responds, otherwise offline in the run's folder."""

import netrc
import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from pytorch_lightning.loggers import WandbLogger

from metashot.checkpoints.run_folder import write_text

_SERVER = "https://api.wandb.ai"
_PATIENCE = 5  # seconds to wait for the server before the run goes offline
_FAREWELL = 60  # seconds allowed for the final upload
_STEP = "trainer/global_step"  # the name that Lightning gives the step in W&B

Mode = Literal["auto", "online", "offline"]


def open_wandb(
    folder: Path, project: str, entity: str | None, group: str | None, tags: list[str], mode: Mode
) -> tuple[WandbLogger, str]:
    """Open the W&B run of a run's folder. A resumed run keeps its W&B id.

    Args:
        folder: the folder of the run, whose name is the name of the W&B run.
        project: the W&B project.
        entity: the W&B user or team; None for the default of the account.
        group: the W&B group of the run, if any.
        tags: the W&B tags of the run.
        mode: online, offline, or auto, which follows `WANDB_MODE`.

    Returns:
        The logger, and a line that tells the user where to find the run.
    """
    import wandb

    def start(mode: Literal["online", "offline"]) -> Any:
        return wandb.init(
            project=project,
            entity=entity,
            group=group,
            tags=tags,
            name=folder.name,
            id=_identity(folder),
            resume="allow",
            dir=folder,
            mode=mode,
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=3 * _PATIENCE, finish_timeout=_FAREWELL, finish_timeout_raises=False
            ),
        )

    online, reason = _wants_online(mode)
    run = None
    if online:
        try:
            run = start("online")
        except Exception as error:  # training continues offline after any failure of wandb or its server
            wandb.teardown()  # otherwise the failed attempt would keep the run's id in use
            reason = f"{_server()} refused the run: {(str(error).splitlines() or [type(error).__name__])[0]}"
    if run is None:
        run = start("offline")
        online = False
    # The x axis of all curves is the training step, as in Lightning's own logger.
    run.define_metric(_STEP)
    run.define_metric("*", step_metric=_STEP, step_sync=True)
    return WandbLogger(experiment=run), _how_to_look(run, online, reason)


def _how_to_look(run: Any, online: bool, reason: str) -> str:
    if online:
        return f"W&B: online at {run.url}"
    written = Path(run.dir).parent
    return f"W&B: offline ({reason}); upload with `wandb sync {written}`, or look with `wandb leet {written}`"


def _wants_online(mode: Mode) -> tuple[bool, str]:
    """Whether to try the server, and if not, the reason."""
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
        return True  # an HTTP error is still a response
    except (OSError, ValueError):
        return False
    return True


def _identity(folder: Path) -> str:
    """The W&B id of a run, created once and stored in its folder. The agent of a W&B sweep provides the id itself."""
    file = folder / "wandb" / "run-id"
    if not file.is_file():
        of_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        write_text(file, of_agent or secrets.token_hex(4))
    return file.read_text().strip()
