"""Run folders: claimed once, written whole, and left clean."""

import errno

import pytest
from conftest import refused

from gan_lab.core.io import atomic
from gan_lab.core.run_folder import Run


def test_a_folder_holds_one_run(tmp_path):
    Run.new(tmp_path / "run", "a: 1\n")
    with refused("exists", "hydra.run.dir"):
        Run.new(tmp_path / "run", "a: 2\n")
    assert Run.existing(tmp_path / "run").config.read_text() == "a: 1\n"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with refused("missing", tmp_path.name):
        Run.existing(tmp_path)


def test_discarding_removes_what_starting_made_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.new(tmp_path / "outputs" / "digits" / "now", "a: 1\n")
    (run.folder / ".hydra").mkdir()
    (run.folder / ".hydra" / "config.yaml").write_text("a: 1\n")
    run.discard()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "theirs" / "runs").mkdir(parents=True)
    Run.new(tmp_path / "theirs" / "runs" / "now", "").discard()
    assert (tmp_path / "theirs" / "runs").is_dir(), "a folder that the user made stays"
    mine = Run.new(tmp_path / "mine", "a: 1\n")
    (mine.folder / "diary.txt").write_text("keep")
    mine.discard()
    assert [p.name for p in mine.folder.iterdir()] == ["diary.txt"]
    drawn = Run.new(tmp_path / "drawn", "a: 1\n")
    (drawn.folder / ".hydra").mkdir()
    (drawn.folder / ".hydra" / "config.yaml").write_text("a: 1\n")
    (drawn.folder / "picture.png").write_text("keep")
    drawn.discard()
    assert {p.name for p in drawn.folder.iterdir()} == {".hydra", "picture.png"}, "it was made with this configuration"


def test_atomic_writing_is_whole_or_not_at_all(tmp_path):
    file = tmp_path / "deep" / "file.txt"
    with atomic(file) as temporary:
        temporary.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"

    with open(file) as reader:
        with atomic(file) as temporary:
            temporary.write_text("third")
        assert reader.read() == "first", "who has the file open reads the old one to its end"
    assert file.read_text() == "third"

    def fail():
        with atomic(file) as temporary:
            temporary.write_text("fou")
            raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match="disk full") as error:
        fail()
    assert error.value.filename == str(file), "the user learns which file"
    assert file.read_text() == "third"
    assert [p.name for p in file.parent.iterdir()] == ["file.txt"]


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path):
    run = Run.new(tmp_path / "run", "")
    with refused("missing", "last.ckpt"):
        run.load_checkpoint()
    run.checkpoint.parent.mkdir()
    run.checkpoint.write_bytes(b"PK\x03\x04 not really")
    with refused("damaged", "last.ckpt"):
        run.load_checkpoint()


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    folder = tmp_path / "caf\udce9"
    Run.new(folder, "a: 1\n").release()
    with refused("unsupported", "caf\udce9") as error:
        Run.existing(folder)
    assert "caf\\udce9" in str(error.value)


def test_a_path_that_is_not_utf8_can_be_written_and_read(tmp_path):
    run = Run(tmp_path)
    run.write_summary({"overrides": ["data.path=\udcff.h5"]})
    assert run.read_summary() == {"overrides": ["data.path=\udcff.h5"]}
