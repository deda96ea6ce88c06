"""What the benchmark of the page measures is what it says; the browser itself is measured in no test."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api")

from benchmarks import page


def image(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "omniglot").mkdir()
    with zipfile.ZipFile(tmp_path / "omniglot" / "images_evaluation.zip", "w") as archive:
        for label in range(7):
            for number in range(20):
                archive.writestr(f"images_evaluation/Angelic/character{label:02}/{number}.png", image(20 * label + number))
        archive.writestr("__MACOSX/images_evaluation/Angelic/character00/0.png", b"none")
    with zipfile.ZipFile(tmp_path / "cifar100.zip", "w") as archive:
        archive.writestr("cifar100/splits/bertinetto/test.txt", "baby\nbed\n")
        for label in ("baby", "bed", "apple"):
            archive.writestr(f"cifar100/data/{label}/1.png", image(3))
    return tmp_path


def test_tasks_are_of_other_images_than_those_they_are_learned_from_and_always_the_same(data: Path) -> None:
    archives = page.omniglot(data)
    assert [len(images) for images in archives.values()] == [20] * 7
    first, second = page.tasks(archives, 2)
    assert [len(images) for images in first.support] == [page.SHOTS] * page.WAYS
    assert len(first.queries) == len(set(first.queries)) == page.WAYS * page.QUERIES
    assert not {one for images in first.support for one in images} & set(first.queries)
    assert second != first
    assert page.tasks(archives, 2) == [first, second]


def test_photographs_are_those_of_test_classes(data: Path) -> None:
    assert sorted(page.cifar_fs(data)) == ["cifar100/data/baby", "cifar100/data/bed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is nothing to do"),
        (["--data", "x", "--queries", "69"], "--queries 69: allowed: 70 to 10,000"),
        (["--screenshot", "page.jpg"], "--screenshot page.jpg: allowed: the name of a PNG file"),
        (["--data", "x", "--learners", "text"], "--learners text: allowed: drawings, photos"),
        (["--data", "x", "--markdown", "nowhere.md"], "--markdown=nowhere.md does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        page.run(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_the_archives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(page.BadInput, match=r"there is no images_evaluation\.zip"):
        page.omniglot(tmp_path)


def test_rows_say_what_was_measured() -> None:
    row = page.Measured("drawings", "server", "Omniglot", 200, 30.4, 12.0, 48.0, 22.0, 1052.0, 9.1e-6)
    cells = dict(zip(page._HEADER, page._cells(row), strict=True))
    assert cells["first fit"] == "30 ms"
    assert cells["query, 95th percentile"] == "1,052 ms"
    assert cells["largest difference"] == "9.1e-06"
