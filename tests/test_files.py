"""Files and folders appear completely or not at all."""

import os

import pytest

from denoise_jax.errors import ConfigError
from denoise_jax.files import AppendedFile, atomic_folder, check_new_folder, local_copy, write_atomically
from denoise_jax.paths import to_path


def test_a_file_is_replaced_and_its_folders_are_created(tmp_path):
    file = tmp_path / "new" / "folder" / "file"
    write_atomically(file, "naïve")
    assert file.read_text(encoding="utf-8") == "naïve"
    write_atomically(file, b"\xff")
    assert file.read_bytes() == b"\xff"
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\udce9")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_when_its_block_succeeds(tmp_path):
    folder = tmp_path / "new" / "folder"
    with atomic_folder(folder) as temporary:
        (temporary / "file").write_text("content")
        assert not folder.exists()
    assert (folder / "file").read_text() == "content"
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o077, "mkdtemp creates folders for their owner only"


def test_a_failed_block_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_folder(tmp_path / "new" / "folder") as temporary:
            (temporary / "file").write_text("content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_missing_or_empty(tmp_path):
    check_new_folder(tmp_path / "missing", "RUN")
    check_new_folder(tmp_path, "RUN")
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match=f"RUN {taken} exists and is not empty; choose another folder"):
            check_new_folder(taken, "RUN")


def test_files_and_folders_in_a_bucket(bucket):
    folder = to_path(bucket) / "files" / "folder"
    check_new_folder(folder, "FOLDER")
    with atomic_folder(folder) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file").write_bytes(b"\x00")
        (temporary / "config.json").write_text("{}")
    write_atomically(folder / "config.json", "naïve")
    with local_copy(folder) as copy:
        assert [file.name for file in copy.iterdir()] == ["config.json"]
        assert (copy / "config.json").read_text(encoding="utf-8") == "naïve"
    assert (folder / "sub" / "file").read_bytes() == b"\x00"
    with pytest.raises(ConfigError, match="FOLDER gs://pods/files/folder exists and is not empty"):
        check_new_folder(folder, "FOLDER")


def test_what_is_written_is_flushed_and_then_named(tmp_path, monkeypatch):
    calls, fsync = [], os.fsync

    def traced(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", traced)
    write_atomically(tmp_path / "config.json", "{}")
    temporary, folder = calls
    assert temporary.startswith(str(tmp_path / ".config.json."))
    assert folder == str(tmp_path)
    calls.clear()
    with atomic_folder(tmp_path / "new") as made:
        (made / "file").write_text("x")
    assert calls == [str(made / "file"), str(made), str(tmp_path)]
    calls.clear()
    metrics = AppendedFile(tmp_path / "metrics.jsonl")
    metrics.append(b"{}\n")
    assert calls == [str(tmp_path / "metrics.jsonl")]
    metrics.close()
