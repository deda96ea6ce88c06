"""Runs scripts in processes forked from one that has imported already what they need, which saves each of them seconds.

Each is also spared Hydra's composing everything a second time, only to read `hydra.mode`, where nobody sets it.
A line of JSON on stdin asks for a process, a line on stdout answers with its number. What is forked has one thread and
runs the script from its first line to its last and what was registered for the end, as `python script` would.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra

from metashot.configuration import signatures
from metashot.configuration.buildable import CONF, buildable

UNPRIVILEGED = "METASHOT_TEST_UNPRIVILEGED"  # in a script's environment: root is to be treated as any other user


def launch() -> NoReturn:
    """Serve until stdin is closed, with what this process has imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes stdin
    Hydra.get_mode = mode_of
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with which OmegaConf reads conf/: eight times faster
    warm_up()
    gc.freeze()  # a collection in a child would copy all of that
    serve()
    os._exit(0)


def serve() -> None:
    """Fork whatever is asked for, and write down how it ended, until stdin is closed."""
    children: dict[int, Path] = {}  # process number -> the file that is told how it ended
    unread = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.01)
        if ready:
            new = os.read(0, 1 << 16)
            if not new:
                return
            unread += new
        while b"\n" in unread:
            line, unread = unread.split(b"\n", 1)
            request = json.loads(line)
            child = os.fork()
            if child == 0:
                become(request)
            children[child] = Path(request["ended"])
            os.write(1, f"{child}\n".encode())
        while children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                break
            ended = children.pop(child)
            ended.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
            ended.with_suffix(".new").rename(ended)


def give_up_privileges() -> None:
    """Let permissions hold for root too, who may read and write everything as long as it has all capabilities."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    none = (ctypes.c_uint32 * 6)()
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def become(request: dict[str, Any]) -> NoReturn:
    """Take on what tells one process from another, run the script, and end as an interpreter ends."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    new = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    streams = ((0, os.devnull, os.O_RDONLY), (1, request["out"], new), (2, request["err"], new))
    for number, path, flags in streams:
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    if os.environ.pop(UNPRIVILEGED, None):
        give_up_privileges()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
    sys.argv = request["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in added if folder and folder not in sys.path]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking apart what was imported before the fork would cost more than most scripts do


_composed_mode = Hydra.get_mode


def mode_of(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """What Hydra finds in the whole configuration: nothing, where no argument is about Hydra or another conf/."""
    told = any("hydra" in override for override in overrides) or any("--config" in given for given in sys.argv)
    return _composed_mode(self, config_name, overrides) if told else None


def warm_up() -> None:
    """What every script reads before it does anything: the signatures in src/, and configurations by Hydra's grammar."""
    for targets in buildable().values():
        for target in targets:
            signatures.parameters_of(target)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name, overrides in (("train", ["algo=protonet", "data.shots=1", "logger.tags=[a,'b']"]), ("evaluate", [])):
            compose(name, overrides=overrides)
