"""Pickles of few-shot data sets: what comes out of them, what stays in the file, and that nothing in them ever runs."""

import os
import pickle
import random
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metashot.bad_input import BadInput
from metashot.sources.getting import pickles
from metashot.sources.getting.pickles import read_pickle

PROTOCOLS = range(6)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "data.pkl"
    path.unlink(missing_ok=True)  # a file that is still mapped must not be cut short
    path.write_bytes(content)
    return path


def read(folder: Path, content: bytes) -> Any:
    return read_pickle(written(folder, content))


def complaint(folder: Path, content: bytes) -> str:
    return complaint_about(written(folder, content))


def complaint_about(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_pickle(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def memory(of: Callable[[], Any], times: int = 1) -> tuple[int, int]:
    """The bytes that what is read keeps, and the most that reading it took.

    Other threads of the process that runs the tests allocate up to a megabyte meanwhile. The least of several times counts.
    """
    found = []
    for _ in range(times):
        tracemalloc.start()
        kept = of()
        found.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        del kept
    sizes, peaks = zip(*found, strict=True)
    return min(sizes), min(peaks)


def assert_same_array(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def python2_image(image: np.ndarray, first: bool) -> bytes:
    """An array as Python 2.7 with numpy 1.16 writes it in protocol 2; names and dtype are memoized by the first."""
    names = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03" if first else b"h\x02h\x03"
    letter = b"U\x01bq\x05" if first else b"h\x05"
    dtype = (
        b"cnumpy\ndtype\nq\x09U\x02u1q\x0aK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01|q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
        if first
        else b"h\x0c"
    )
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in image.shape) + b"tr\x08\x00\x01\x00"
    content = image.tobytes()
    short = len(content) < 256
    payload = (b"U" + struct.pack("<B", len(content)) if short else b"T" + struct.pack("<i", len(content))) + content
    return (
        names
        + b"K\x00\x85q\x04"
        + letter
        + b"\x87r\x06\x00\x01\x00Rr\x07\x00\x01\x00(K\x01"
        + shape
        + dtype
        + b"\x89"
        + payload
        + b"r\x0f\x00\x01\x00tr\x10\x00\x01\x00b"
    )


def python2_images(images: list[np.ndarray]) -> bytes:
    return b"\x80\x02]q\x01(" + b"".join(python2_image(image, index == 0) for index, image in enumerate(images)) + b"e."


CONTAINERS = {
    "nothing": None,
    "truth": [True, False],
    "numbers": [0, 1, 255, 256, 65536, -1, -(2**40), 2**70, -(2**3000), 1.5, float("inf"), -0.0],
    "text": ["", "short", "a name of more than thirty-two characters", "é" * 100, "\n'\"\\", "💡", "x" * 300],
    "bytes": [b"", b"short", bytes(range(256)), b"y" * 70000],
    "bytearrays": [bytearray(), bytearray(b"short"), bytearray(range(256))],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ("z" * 40, (b"z" * 40, ("z" * 50, [("z" * 60,)])))],
    "sets": [set(), {1, "a"}, frozenset({2, "b"}), frozenset()],
    "dicts": [{}, {1: 2}, {(1, "a"): {"k": []}, None: 0, 1.5: 1, b"bytes": "v" * 40, "k" * 40: 3}],
    "ordered": OrderedDict([("b", 1), ("a", [2])]),
}

ARRAYS = {
    "images": np.arange(2 * 5 * 7 * 3, dtype=np.uint8).reshape(2, 5, 7, 3),
    "short": np.array([1, 2, 3], np.uint8),
    "zeros": np.zeros(64, np.uint8),
    "labels": np.arange(-50, 50, dtype=np.int64),
    "features": np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5),
    "fortran": np.asfortranarray(np.arange(60, dtype=np.int32).reshape(3, 20)),
    "transposed": np.arange(120, dtype=np.uint8).reshape(4, 5, 6).transpose(1, 0, 2),
    "strided": np.arange(100, dtype=np.uint8)[::3],
    "big-endian": np.arange(40, dtype=">i4"),
    "big-endian short": np.arange(2, dtype=">u2"),
    "truth": np.array([True, False] * 30),
    "text": np.array(["n01532829", "é", ""]),
    "bytes": np.array([b"n01532829", b"b"]),
    "empty": np.empty(0, np.uint8),
    "empty rows": np.empty((0, 32, 32, 3), np.uint8),
    "no dimension": np.array(3.5),
    "objects": np.array(["n01532829", None, 3, [1, "a name of more than thirty-two characters"]], dtype=object),
    "object table": np.asfortranarray(np.array([["a", "b", "c"], ["d", "e", "f"]], dtype=object)),
    "number": np.float32(1.5),
    "index": np.int64(-7),
    "boolean": np.bool_(True),
    "string": np.str_("a name as a numpy string, which takes many bytes"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", CONTAINERS)
def test_plain_containers_come_out_as_they_were_written(tmp_path: Path, name: str, protocol: int) -> None:
    found = read(tmp_path, pickle.dumps(CONTAINERS[name], protocol=protocol))
    assert type(found) is type(CONTAINERS[name])
    assert found == CONTAINERS[name]
    assert repr(found) == repr(CONTAINERS[name])  # 1 == True == 1.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_they_were_written(tmp_path: Path, name: str, protocol: int) -> None:
    found = read(tmp_path, pickle.dumps([ARRAYS[name], {"again": ARRAYS[name]}], protocol=protocol))
    assert_same_array(found[0], ARRAYS[name])
    assert_same_array(found[1]["again"], ARRAYS[name])
    assert not found[0].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["images", "short", "fortran", "big-endian", "objects", "text", "number"])
def test_numpy_1_and_numpy_2_names_mean_the_same(tmp_path: Path, name: str, protocol: int) -> None:
    ours = pickle.dumps(ARRAYS[name], protocol=protocol)
    version1 = ours.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray").replace(
        b"numpy._core.", b"numpy.core."
    )
    version2 = version1.replace(b"\x15numpy.core.multiarray", b"\x16numpy._core.multiarray")
    version2 = version2.replace(b"\x12numpy.core.numeric", b"\x13numpy._core.numeric").replace(
        b"numpy.core.", b"numpy._core."
    )
    version1 = version1.replace(b"\x13numpy.core.numeric", b"\x12numpy.core.numeric")
    assert version1 != version2
    assert_same_array(read(tmp_path, version1), ARRAYS[name])
    assert_same_array(read(tmp_path, version2), ARRAYS[name])


def test_numpy_2_arrays_with_permuted_axes_are_read(tmp_path: Path) -> None:
    content = bytes(range(60))
    dtype = b"cnumpy\ndtype\n\x8c\x02u1\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    call = b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C" + bytes([60]) + content + dtype
    call += b"K\x03K\x04K\x05\x87\x8c\x01K"
    found = read(tmp_path, call + b"K\x01K\x00K\x02\x87tR.")
    assert_same_array(found, np.arange(60, dtype=np.uint8).reshape(3, 4, 5).transpose(1, 0, 2))
    assert "damaged" in complaint(tmp_path, call + b"K\x01K\x00\x8a\x0a" + bytes(9) + b"\x01\x87tR.")
    assert "damaged" in complaint(tmp_path, call + b"K\x01K\x00K\x01\x87tR.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_array_is_a_read_only_view_of_the_file(tmp_path: Path, protocol: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (500, 84, 84), np.uint8)
    path = written(tmp_path, pickle.dumps({"image_data": images, "class_dict": {"n01": [0, 1]}}, protocol=protocol))
    found = read_pickle(path)
    assert not found["image_data"].flags.owndata
    assert not found["image_data"].flags.writeable
    assert np.array_equal(found["image_data"], images)
    assert found["class_dict"] == {"n01": [0, 1]}
    if protocol >= 3:  # before, Python 3 writes bytes as text, which cannot be an array as it stands
        assert memory(lambda: read_pickle(path), times=3)[1] < images.nbytes / 20


def test_array_outlives_the_name_of_its_file(tmp_path: Path) -> None:
    found = read(tmp_path, pickle.dumps(ARRAYS["images"], protocol=4))
    (tmp_path / "data.pkl").unlink()
    assert np.array_equal(found, ARRAYS["images"])


@pytest.mark.parametrize("writer", ["python 2", "python 3"])
def test_list_of_small_images_takes_little_memory(tmp_path: Path, writer: str) -> None:
    images = [np.full((size, 1), size % 256, np.uint8) for size in range(1000, 6000, 2)]
    path = written(tmp_path, python2_images(images) if writer == "python 2" else pickle.dumps(images, protocol=4))
    size, peak = memory(lambda: read_pickle(path), times=3)
    assert size / len(images) < 200
    assert peak / len(images) < 300
    assert all(np.array_equal(*pair) for pair in zip(read_pickle(path), images, strict=True))


def test_python_2_arrays_of_any_length_are_read(tmp_path: Path) -> None:
    images = [np.arange(size, dtype=np.uint8).reshape(-1, 1) for size in (1, 0, 31, 32, 255, 256)]
    images.append(np.full((5, 1), 200, np.uint8))
    assert pickle.loads(python2_images(images), encoding="latin1")[-1][0] == 200  # it is the real format
    found = read(tmp_path, python2_images(images))
    for ours, theirs in zip(found, images, strict=True):
        assert_same_array(ours, theirs)


def test_python_2_strings_become_text(tmp_path: Path) -> None:
    name = b"bos_taurus_s_000507_with_a_long_name\xe9.png"
    binary = b"\x80\x02}q\x01(U\x09filenamesq\x02]q\x03(U" + bytes([len(name)]) + name + b"T\x02\x00\x00\x00ab"
    binary += b"eU\x0bfine_labels]q\x04(K\x13K\x1deX\x02\x00\x00\x00\xc3\xa9I01\nu."
    text = b"(dp1\nS'filenames'\np2\n(lp3\nS'" + name.replace(b"\xe9", b"\\xe9") + b'\'\naS"ab"\nas'
    text += b"S'fine_labels'\n(lp4\nI19\naL29L\nasV\\u00e9\nI01\ns."
    expected = {"filenames": [name.decode("latin-1"), "ab"], "fine_labels": [19, 29], "é": True}
    assert read(tmp_path, binary) == expected
    assert read(tmp_path, text) == expected


def test_value_named_twice_is_one_object(tmp_path: Path) -> None:
    shared, array = ["a"], np.arange(100)
    for protocol in PROTOCOLS:
        found = read(tmp_path, pickle.dumps([shared, shared, array, array, "n" * 99, "n" * 99], protocol=protocol))
        assert found[0] is found[1]
        assert found[2] is found[3]
        assert found[4] is found[5]


def test_list_that_holds_itself_is_read(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    found = read(tmp_path, pickle.dumps(endless))
    assert found[0] is found


def test_what_follows_the_end_is_not_looked_at(tmp_path: Path) -> None:
    assert read(tmp_path, pickle.dumps([1]) + b"\xff\xff") == [1]


# Nothing runs


class Call:
    """Something that would call a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self) -> None:
        """Only what can be called may stand for a function in a pickle."""


class Stateful:
    """Something that would run its own code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["marker"]).touch()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle_that_would_run_code_is_refused_by_name_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    hostile = {
        f"{os.system.__module__}.system": Call(os.system, f"touch {marker}"),
        "builtins.eval" if protocol >= 3 else "__builtin__.eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr" if protocol >= 3 else "__builtin__.getattr": Call(Call(getattr, marker, "touch")),
        "numpy.save": Call(np.save, str(marker), np.arange(3)),
        f"{__name__}.Stateful": Stateful(marker),
    }
    for name, thing in hostile.items():
        content = pickle.dumps([np.arange(50), thing], protocol=protocol)
        message = complaint(tmp_path, content)
        wanted = "copyreg._reconstructor" if name.endswith("Stateful") and protocol < 2 else name
        wanted = wanted.replace("copyreg", "copy_reg") if protocol < 3 else wanted
        assert f"wants to load {wanted}, which is not an array or a plain container; it was not loaded" in message
        assert not list(tmp_path.glob("marker*"))
        pickle.loads(content)  # the proof that it would have
        assert [path.unlink() for path in tmp_path.glob("marker*")]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'touch marker'\ntR.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch marker\x85R.", "os.system"),
        (b"\x80\x04" + b"\x8c\x2a" + b"a." * 20 + b"aa" + b"\x8c\x06system\x93.", ".".join(["a"] * 20) + ".aa.system"),
        (b"(S'touch marker'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'touch marker'\no.", "os.system"),
        (b"\x80\x02cnumpy\nload\nU\x06marker\x85R.", "numpy.load"),
        (b"\x80\x02cnumpy\nmemmap\n.", "numpy.memmap"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nmatrix\n.", "numpy.matrix"),
        (b"\x80\x02ccopy_reg\n_reconstructor\n.", "copy_reg._reconstructor"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.", "builtins.set.__init__"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        (b"\x80\x02cnumpy\nndarray\n.", "numpy.ndarray"),
        (b"\x80\x02](c_codecs\nencode\ne.", "_codecs.encode"),
        (b"\x80\x02]c_codecs\nencode\n\x85\x85a.", "_codecs.encode"),
    ],
)
def test_name_that_is_no_array_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    assert f"wants to load {name}, which is not an array or a plain container; it was not loaded" in complaint(
        tmp_path, content
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x04cnumpy\nndarray\n)}\x92.",  # NEWOBJ_EX
        b"(inumpy\nndarray\n.",
        b"(cnumpy\nndarray\no.",
        b"Pname\n.",
        b"U\x04nameQ.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb.",  # a state for a class
        b"\x80\x02c__builtin__\nset\n]}b.",
        b"\x80\x02}]K\x01s.",  # a list for a key
        b"\x80\x02]}U\x06appendK\x01sb.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02c_codecs\nencode\nK\x01X\x06\x00\x00\x00latin1\x86R.",
    ],
)
def test_objects_and_states_are_refused(tmp_path: Path, content: bytes) -> None:
    complaint(tmp_path, content)


@pytest.mark.parametrize("dtype", [[("x", "u1"), ("y", "f4")], "M8[s]", "V4"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: Any, protocol: int) -> None:
    assert "dtype" in complaint(tmp_path, pickle.dumps(np.zeros(3, dtype), protocol=protocol))


# Damage


@pytest.mark.parametrize(
    "content",
    {
        "text": b"hello, this is a text\n",
        "table": b"class_id,name\n1,dog\n",
        "page": b"<!DOCTYPE html><html>",
        "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        "zip": b"PK\x03\x04" + bytes(100),
        "zeros": bytes(100),
        "newer protocol": b"\x80\x06N.",
        "unknown instruction": b"\x80\x02\xffN.",
        "nothing on the stack": b"\x80\x02.",
        "too little for a tuple": b"\x80\x02K\x01\x87.",
        "no mark": b"\x80\x02K\x01t.",
        "no list": b"\x80\x02K\x01K\x02a.",
        "no dict": b"\x80\x02]K\x01K\x02s.",
        "no set": b"\x80\x04](K\x01\x90.",
        "key without value": b"\x80\x02}(K\x01u.",
        "memo that is not there": b"\x80\x02h\x05.",
        "text in place of a memo key": b"gabc\n.",
        "text in place of a number": b"Iabc\n.",
        "quotes": b"Sabc\n.",
        "not utf-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
        "not utf-8, long": b"\x80\x02X\x40\x00\x00\x00" + b"\xff" * 64 + b".",
        "call of a number": b"\x80\x02K\x01)R.",
        "call with a number": b"\x80\x02c__builtin__\nset\nK\x01R.",
        "wrong arguments": b"\x80\x02cnumpy\ndtype\n)R.",
        "number for a name": b"\x80\x04K\x01K\x02\x93.",
        "unfinished array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
        "dict for a state": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R}b.",
        "dict for a dtype": b"\x80\x02cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R}b.",
    }.items(),
    ids=lambda item: item[0],
)
def test_damaged_or_foreign_file_is_named(tmp_path: Path, content: tuple[str, bytes]) -> None:
    assert "damaged or not a pickle" in complaint(tmp_path, content[1])


def test_empty_file_is_named(tmp_path: Path) -> None:
    assert "empty" in complaint(tmp_path, b"")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pkl", tmp_path):
        with pytest.raises(BadInput, match=f"{path} cannot be read"):
            read_pickle(path)


@pytest.mark.parametrize(
    "head",
    [b"T\xff\xff\xff\x7f", b"T\xff\xff\xff\xff", b"B\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f"],
)
def test_length_beyond_the_file_is_refused_before_memory_is_asked_for(tmp_path: Path, head: bytes) -> None:
    path = written(tmp_path, b"\x80\x04" + head + b"abc.")
    assert "it announces" in complaint_about(path)
    assert memory(lambda: complaint_about(path), times=3)[1] < 100_000


@pytest.mark.parametrize(
    "shape",
    [
        b"K\x27\x85",
        b"K\x29\x85",
        b"J\xd8\xff\xff\xff\x85",
        b"]",
        b"N",
        b"G" + bytes(8) + b"\x85",
        b"(" + b"K\x01" * 99 + b"t",
    ],
)
@pytest.mark.parametrize("length", [40, 4])
def test_shape_that_does_not_fit_is_refused(tmp_path: Path, shape: bytes, length: int) -> None:
    sound = pickle.dumps(np.arange(length, dtype=np.uint8), protocol=3)
    place = b"K" + bytes([length]) + b"\x85"
    assert sound.count(place) == 1
    message = complaint(tmp_path, sound.replace(place, shape))
    assert "impossible shape" in message or f"has {length} bytes" in message


def made_by_hand(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    u1 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    return start + shape + dtype.replace(b"u1", u1) + b"\x89" + content + b"tb."


def test_content_of_an_array_may_be_written_as_text(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 80) + "é".encode() * 40
    assert_same_array(read(tmp_path, made_by_hand(b"K\x28\x85", b"u1", text)), np.full(40, 0xE9, np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (made_by_hand(b"K\x01\x85", b"u1", b"N"), "the content of an array is a NoneType"),
        (made_by_hand(b"K\x01\x85", b"K\x01", b"U\x01a"), "an array lacks its dtype"),
        (made_by_hand(b"K\x01\x85", b"cnumpy\ndtype\n", b"U\x01a"), "an array lacks its dtype"),
        (made_by_hand(b"K\x01\x85", b"u1", b"U\x01a").replace(b"U\x01|", b"U\x011"), "a dtype that does not exist"),
        (made_by_hand(b"\x8a\x0a" + bytes(9) + b"\x01K\x00\x86", b"u1", b"U\x00"), "dimension"),
        (made_by_hand(b"(" + b"K\xff" * 200_000 + b"t", b"u1", b"U\x00"), "impossible shape"),
        (made_by_hand(b"K\x01\x85", b"u1", b"U\x01a").replace(b"U\x02u1", b"U\x02O8"), "lacks its objects"),
        (b"\x80\x02", "it ends too early, after 2 bytes"),
        (b"\x80\x02h\x05.", "it asks for value 5, which it never made"),
        (b"\x80\x02\x85.", "TUPLE1 asks for more values than there are"),
        (b"\x80\x02Tabc", "byte"),
    ],
)
def test_damage_is_described(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in complaint(tmp_path, content)


def test_array_of_objects_is_as_large_as_its_shape_says(tmp_path: Path) -> None:
    sound = pickle.dumps(np.array(["a", "b"], dtype=object), protocol=3)
    assert sound.count(b"K\x02\x85") == 1
    for size in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"):
        assert "damaged" in complaint(tmp_path, sound.replace(b"K\x02\x85", b"J" + size + b"\x85"))


def test_text_array_without_text_is_refused(tmp_path: Path) -> None:
    for text in (np.array(["abcdefghijk"]), np.str_("abc")):
        content = pickle.dumps(text, protocol=4)
        assert "characters that do not exist" in complaint(tmp_path, content.replace(b"b\x00\x00\x00", b"b\x00\x00\x01"))


def test_few_bytes_cannot_make_endless_copies(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    again = b"c_codecs\nencode\nq\x02h\x01X\x06\x00\x00\x00latin1\x86R"
    content = b"\x80\x02](" + text + b"q\x01" + again * 10_000 + b"e."
    path = written(tmp_path, content)
    problems: list[str] = []
    assert memory(lambda: problems.append(complaint_about(path)))[1] < 10 * len(content)
    assert "again and again" in problems[0]


CROWDED = {
    "lists": b"](" + b"]" * 500_000 + b"e.",
    "dicts with a pair": b"](" + b"}K\x01Ns" * 100_000 + b"e.",
    "sets": b"](" + b"\x8f" * 200_000 + b"e.",
    "ordered dicts": b"](ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 100_000 + b"e.",
    "marks": b"(" * 500_000 + b".",
    "tuples": b")" + b"\x85" * 500_000 + b".",
    "copies of a tuple": b"(" + (b"\x8c\x20" + b"a" * 32) * 500 + b"t\x94](" + b"h\x00" * 50_000 + b"e.",
}


@pytest.mark.parametrize("program", CROWDED.values(), ids=CROWDED.keys())
def test_containers_take_no_more_memory_than_a_file_of_that_size_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes
) -> None:
    monkeypatch.setattr(pickles, "_ROOM_OF_ANY", 2**20)
    content = b"\x80\x04" + program
    path = written(tmp_path, content)
    problems: list[str] = []
    assert memory(lambda: problems.append(complaint_about(path)))[1] < 30 * len(content) + 2**22
    assert "far more containers" in problems[0]


def test_deep_nesting_does_not_exhaust_the_interpreter(tmp_path: Path) -> None:
    depth = 100_000
    for content in (b")" + b"\x85" * depth, b"]" * depth + b"a" * (depth - 1), b"(" * depth + b"t" * depth):
        assert len(read(tmp_path, b"\x80\x02" + content + b".")) <= 1
    complaint(tmp_path, b"\x80\x02})" + b"\x85" * depth + b"Ns.")  # as a key, Python would hash it, and crash


def mixture(protocol: int) -> bytes:
    arrays = [np.full(33, 65, np.uint8), np.asfortranarray(np.ones((2, 3), np.uint8)), np.array(["a", None], dtype=object)]
    others = [np.array(["ab"]), np.float32(1), OrderedDict(a=[1]), {"a": (1, "n" * 32)}, b"b" * 32, {1}, 2**70]
    return pickle.dumps([*arrays, *others], protocol=protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_file_cut_off_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    content = mixture(protocol)
    assert read(tmp_path, content)
    for length in range(1, len(content)):
        assert "damaged or not a pickle" in complaint(tmp_path, content[:length])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_flipped_bytes_give_a_value_or_a_complaint(tmp_path: Path, protocol: int) -> None:
    content, chance, refused = mixture(protocol), random.Random(protocol), 0
    for _ in range(700):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            repr(read(tmp_path, bytes(damaged)))
        except BadInput:
            refused += 1
    assert refused > 200
