"""Files as an enemy makes them: configurations that name what they must not, archives that are not what they seem."""

import copy
import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Config = dict[str, Any]
Attack = Callable[[Config, Path], Any]  # changes a sound configuration; the path is there once foreign code has run


def _write(trace: Path) -> Config:
    """The call of the attack that was seen: a function of metashot's own that writes a file."""
    return {"_target_": "metashot.checkpoints.run_folder.write_text", "path": str(trace), "text": "code was run"}


def own_function(config: Config, trace: Path) -> None:
    config["algo"]["optimizer"]["name"] = _write(trace)


def own_function_as_a_group(config: Config, trace: Path) -> None:
    config["engine"] = _write(trace)


def own_builder(config: Config, trace: Path) -> None:
    config["backbone"] = {"_target_": "metashot.configuration.building.build", "node": _write(trace)}


def foreign_function(config: Config, trace: Path) -> None:
    config["algo"] = {"_target_": "os.mkdir", "path": str(trace)}


def foreign_function_in_a_list(config: Config, trace: Path) -> None:
    config["logger"]["tags"] = [{"_target_": "os.mkdir", "path": str(trace)}]


def foreign_function_below_an_unknown_key(config: Config, trace: Path) -> None:
    config["algo"]["extra"] = {"deep": [{"er": {"_target_": "os.mkdir", "path": str(trace)}}]}


def unsafe_load(config: Config, trace: Path) -> None:
    config["data"]["source"] = {"_target_": "torch.load", "f": str(trace), "weights_only": False}


def class_out_of_place(config: Config, trace: Path) -> None:
    config["data"]["source"] = copy.deepcopy(config["logger"])


def class_of_metashot_that_is_not_configured(config: Config, trace: Path) -> None:
    config["logger"] = {"_target_": "metashot.tracking.csv_file.CsvLogger", "folder": str(trace)}


def partial_call(config: Config, trace: Path) -> None:
    config["algo"] |= {"_partial_": True, "_args_": [str(trace)]}


def launcher_of_hydra(config: Config, trace: Path) -> None:
    config["hydra"] = {"launcher": {"_target_": "os.mkdir", "path": str(trace)}}


def defaults_of_hydra(config: Config, trace: Path) -> None:
    config["algo"]["defaults"] = [{"override /hydra/launcher": "submitit_local"}]


def interpolation(config: Config, trace: Path) -> None:
    config["data"]["root"] = "${oc.env:HOME}"


def name_that_leaves_its_folder(config: Config, trace: Path) -> None:
    config["algo"]["name"] = f"../../../../../../..{trace}"


def seed_with_more(config: Config, trace: Path) -> None:
    config["seed"] = "0 hydra.run.dir=elsewhere"


def endless_references(config: Config, trace: Path) -> None:
    many: list[Any] = ["x"]
    for _ in range(40):
        many = [many, many]
    config["logger"]["tags"] = many


CONFIGURATIONS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        own_function,
        own_function_as_a_group,
        own_builder,
        foreign_function,
        foreign_function_in_a_list,
        foreign_function_below_an_unknown_key,
        unsafe_load,
        class_out_of_place,
        class_of_metashot_that_is_not_configured,
        partial_call,
        launcher_of_hydra,
        defaults_of_hydra,
        interpolation,
        name_that_leaves_its_folder,
        seed_with_more,
        endless_references,
    )
}


def attacked(config: Config, attack: Attack, trace: Path) -> Config:
    changed = copy.deepcopy(config)
    attack(changed, trace)
    return changed


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(content: dict[str, bytes], to: Path, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(to, "w", compression) as archive:
        for name, inner in content.items():
            archive.writestr(name, inner)


def with_pickle(archive: Path, pickled: bytes) -> None:
    """Put another pickle into an archive of torch's."""
    content = members(archive)
    content[next(name for name in content if name.endswith("data.pkl"))] = pickled
    packed(content, archive)


def compressed(archive: Path) -> None:
    """Members that grow: a file of a few megabytes which is gigabytes when it is read."""
    content = members(archive)
    content["archive/data/bomb"] = bytes(2**26)
    packed(content, archive, zipfile.ZIP_DEFLATED)


def overlapping(archive: Path) -> None:
    """A directory of many members that are all the same bytes."""
    whole = archive.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", whole[end + 10 : end + 20])
    directory = whole[start : start + size]
    times = 60_000 // count
    tail = bytearray(whole[end:])
    tail[8:20] = struct.pack("<HHII", count * times, count * times, size * times, start)
    archive.write_bytes(whole[:start] + directory * times + tail)


def huge_tensor(archive: Path) -> None:
    """A tensor of 10^12 values over a storage of a few."""
    values = torch.zeros(4).as_strided((10**6, 10**6), (0, 0))
    _saved_in(archive, lambda content: content["state_dict"].update(x=values))


def foreign_call(archive: Path) -> None:
    trace = archive.parent / "code-was-run"
    with_pickle(archive, b"\x80\x02cos\nmkdir\n(X" + struct.pack("<I", len(str(trace))) + str(trace).encode() + b"tR.")


def named_module(archive: Path) -> None:
    """A module is named and never called: its import alone would run it."""
    with_pickle(archive, b"\x80\x02cthis\nd\n.")


def call_by_stack(archive: Path) -> None:
    trace = str(archive.parent / "code-was-run")
    with_pickle(archive, pickle.dumps(_Mkdir(trace), protocol=4))


def memory_by_number(archive: Path) -> None:
    """BYTEARRAY8 announces 2^40 bytes, which pickle takes before it looks for them."""
    with_pickle(archive, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".")


def memo_by_number(archive: Path) -> None:
    """LONG_BINPUT into place 2^32 - 1 of the memo, for which the unpickler in C takes 32 gigabytes."""
    with_pickle(archive, b"\x80\x02]r\xff\xff\xff\xff.")


def deep_pickle(archive: Path) -> None:
    with_pickle(archive, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def wide_pickle(archive: Path) -> None:
    """Thirty lists, each twice in the next."""
    out = io.BytesIO(b"")
    out.write(b"\x80\x02]q\x00")
    for place in range(40):
        out.write(b"](h" + bytes([place]) + b"h" + bytes([place]) + b"eq" + bytes([place + 1]))
    out.write(b".")
    with_pickle(archive, out.getvalue())


def deep_key(archive: Path) -> None:
    """A tuple in a tuple in a tuple as a key: its hash takes the stack of the process."""
    with_pickle(archive, b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.")


def doubled_key(archive: Path) -> None:
    """A tuple of twice the tuple before, sixty times: its hash takes 2^60 steps."""
    with_pickle(archive, b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01s.")


def colliding_keys(archive: Path) -> None:
    """Numbers that all have one hash."""
    numbers = ((place * (2**61 - 1)).to_bytes(11, "little") for place in range(1, 60_000))
    with_pickle(archive, b"\x80\x02}(" + b"".join(b"\x8a\x0b" + number + b"N" for number in numbers) + b"u.")


def long_program(archive: Path) -> None:
    with_pickle(archive, b"\x80\x02](" + b"K\x01" * 6_000_000 + b"e.")


def old_format(archive: Path) -> None:
    torch.save(_Mkdir(str(archive.parent / "code-was-run")), archive, _use_new_zipfile_serialization=False)


def two_pickles(archive: Path) -> None:
    content = members(archive)
    packed(content | {"other/data.pkl": next(iter(content.values()))}, archive)


def storage_of_another_length(archive: Path) -> None:
    content = members(archive)
    name = next(name for name in content if "/data/" in name)
    packed(content | {name: content[name] + bytes(4)}, archive)


ARCHIVES: dict[str, Callable[[Path], None]] = {
    damage.__name__: damage
    for damage in (
        compressed,
        overlapping,
        huge_tensor,
        foreign_call,
        named_module,
        call_by_stack,
        memory_by_number,
        memo_by_number,
        deep_pickle,
        wide_pickle,
        deep_key,
        doubled_key,
        colliding_keys,
        long_program,
        old_format,
        two_pickles,
        storage_of_another_length,
    )
}


class _Mkdir:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)


def _saved_in(archive: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(archive, weights_only=True)
    change(content)
    torch.save(content, archive)


def instructions(pickled: bytes) -> set[str]:
    return {instruction.name for instruction, _, _ in pickletools.genops(pickled)}
