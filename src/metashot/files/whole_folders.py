"""Folders that are there whole or not at all, and locks between the processes that would make one at the same time."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from metashot.files.paths import open_lock


def make_once(folder: Path, is_current: Callable[[], bool], make: Callable[[], None]) -> None:
    """Make a folder that is not current, in one of the processes that ask for it; the others wait.

    Args:
        folder: where it will be; folders above it are made, and removed again where nothing came of it.
        is_current: whether the folder is there and can be used.
        make: makes it, with `whole_folder`.

    Raises:
        OSError: if it cannot be written.
    """
    above = folder.parent
    missing = [one for one in (above, *above.parents) if not one.exists()]
    lock = above / f".{folder.name}.lock"
    try:
        above.mkdir(parents=True, exist_ok=True)
        with locked(lock):
            if not is_current():  # another process may have made it while this one waited
                try:
                    make()
                except BaseException:
                    lock.unlink()  # nothing that was made for the attempt is left behind
                    raise
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # it holds a folder
                made.rmdir()


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder, which takes the place of `folder` at once when it is left without an exception. Whoever makes one
    holds its lock."""
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):  # of a process that was killed
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.building-", dir=folder.parent))
    try:
        yield temporary
        take_the_place_of(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_the_place_of(folder: Path, temporary: Path) -> None:
    """Rename a finished temporary folder to `folder`, and remove the one that was there. Whoever does so holds its lock."""
    temporary.chmod(0o755)
    shutil.rmtree(temporary / "outdated", ignore_errors=True)  # of a process that was killed here
    if folder.exists():  # damaged or outdated, or it would have been used
        folder.rename(temporary / "outdated")  # at once, for those who open it now
        temporary.rename(folder)
        shutil.rmtree(folder / "outdated")
    else:
        temporary.rename(folder)


def put_in_place(made: Path, folder: Path) -> None:
    """Rename a finished folder to a user's name, at which there is nothing, an empty folder, or an earlier one of ours.

    Unlike `take_the_place_of`, it needs no lock, leaves nothing in the folder, and puts the earlier one back where it fails.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        os.rename(made, folder)  # replaces an empty folder
        return
    earlier = made.with_suffix(".replaced")
    os.rename(folder, earlier)
    try:
        os.rename(made, folder)
    except BaseException:  # a signal, too, must not leave the user without the earlier one
        os.rename(earlier, folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for."""
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open_lock(path))
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it may have removed it, and others then lock the one that was made after it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        yield
