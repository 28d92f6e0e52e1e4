"""The record of a checkpoint's small files, by which their damage, loss or exchange is noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class FileRecord(BaseModel):
    """What one process has written to an item of a checkpoint."""

    model_config = ConfigDict(strict=True, frozen=True)

    step: int  # of the checkpoint
    processes: int  # of the run; each has a record
    files: dict[str, str]  # name → SHA-256 of the content
    sha256: str  # of this record's other fields

    @classmethod
    def of(cls, step: int, processes: int, contents: Mapping[str, bytes]) -> "FileRecord":
        """The record of `contents`, name → content."""
        files = {name: _sha256(content) for name, content in contents.items()}
        record = cls(step=step, processes=processes, files=files, sha256="")
        return record.model_copy(update={"sha256": record._digest()})

    def to_json(self) -> bytes:
        """The content of the record's file."""
        return self.model_dump_json(indent=2).encode()

    def _digest(self) -> str:
        return _sha256(self.model_dump_json(exclude={"sha256"}).encode())


def record_name(process: int) -> str:
    """The name of the record of `process` in an item."""
    return f"checksums-of-process-{process}.json"


def read_record(item: Path, process: int = 0) -> FileRecord:
    """The record of `process` in the folder `item`.

    Raises:
      OSError: there is none.
      ValueError: it is damaged.
    """
    file = item / record_name(process)
    try:
        record = FileRecord.model_validate_json(file.read_bytes())
    except ValueError:  # pydantic's, with a line for each field
        raise ValueError(f"{file.name} is not a record of files") from None
    if record.sha256 != record._digest():
        raise ValueError(f"{file.name} has changed since it was saved")
    return record


def read_files(item: Path, step: int) -> dict[str, bytes]:
    """The files of all processes in the folder `item`, by relative path. Files in no record are left out.

    Raises:
      OSError: a file is missing.
      ValueError: a file has changed since it was saved, or is of another step than `step`.
    """
    contents: dict[str, bytes] = {}
    for process in range(read_record(item).processes):
        record = read_record(item, process)
        if record.step != step:
            raise ValueError(f"its {item.name} are those of step {record.step}")
        for name, checksum in record.files.items():
            contents[name] = (item / name).read_bytes()
            if _sha256(contents[name]) != checksum:
                raise ValueError(f"{name} has changed since it was saved")
    return contents


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
