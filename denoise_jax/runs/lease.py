"""The lock of a run under gs://: an object that its holder keeps renewing.

A bucket has no file locks. Creating and replacing the object under a generation precondition is atomic:
of two processes that try, one fails. A holder renews the object every few seconds; if it has not changed for
`EXPIRY` seconds of the waiting process's own clock, the holder is dead. No clocks are compared.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path

from denoise_jax.errors import ConfigError

RENEWAL = 5.0  # seconds between renewals
EXPIRY = 30.0  # seconds without a renewal after which the holder is dead
_POLL = 1.0  # seconds


class Lease:
    """Holds `file`, a path under gs://, until it is closed or the process ends.

    Waits up to `EXPIRY` seconds for a holder that may be dead; one that ran on this host is looked up. Should
    another process take the lease, because this one was cut off for too long, this process ends at once with
    exit code 2: two processes must not write to a run.

    Raises:
      ConfigError: another process holds it.
    """

    def __init__(self, file: Path):
        self._file, self._object = file, _GoogleObject(file)
        self._content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})
        self._generation = self._acquire()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Gives the lease back."""
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._object.delete(self._generation)

    def _acquire(self) -> object:
        deadline, seen = time.monotonic() + EXPIRY, None
        while True:
            found = self._object.read()
            if found is None or _is_dead(found[1]) or (found[0] == seen and time.monotonic() > deadline):
                generation = self._object.write(self._content, None if found is None else found[0])
                if generation is not None:
                    return generation
            elif seen not in (None, found[0]):
                holder = json.loads(found[1])
                raise ConfigError(
                    f"another process ({holder['host']}, {holder['pid']}) is training in workdir "
                    f"{self._file.parent}; wait for it or stop it"
                )
            else:
                seen = found[0]
            time.sleep(_POLL)

    def _renew(self) -> None:
        while not self._closed.wait(RENEWAL):
            try:
                generation = self._object.write(self._content, self._generation)
            except Exception as error:  # the bucket is out of reach: it may come back
                print(f"denoise-jax: the lock {self._file} is not renewed: {error}", file=sys.stderr)
                continue
            if generation is None:
                found = self._object.read()
                if found is not None and found[1] != self._content:
                    print(f"denoise-jax: another process has taken {self._file}; stopping", file=sys.stderr)
                    os._exit(2)
                # Only the answer to the last renewal was lost, or somebody has deleted the lock.
                generation = found[0] if found else 0
            self._generation = generation


def _is_dead(content: str) -> bool:
    """Whether the holder ran on this host and has ended."""
    holder = json.loads(content)
    if holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class _GoogleObject:
    """One object of a Google Cloud Storage bucket, replaced only in the generation that was read."""

    def __init__(self, file: Path):
        from google.cloud import storage

        bucket, name = os.fspath(file).removeprefix("gs://").split("/", 1)
        self._bucket, self._name = storage.Client().bucket(bucket), name

    def read(self) -> tuple[int, str] | None:
        """(generation, content); None if there is no object."""
        from google.api_core.exceptions import NotFound

        try:
            blob = self._bucket.blob(self._name)
            content = blob.download_as_text()
        except NotFound:
            return None
        return blob.generation, content

    def write(self, content: str, generation: int | None) -> int | None:
        """The new generation; None if the object is not in `generation` (None: does not exist) any more."""
        from google.api_core.exceptions import PreconditionFailed

        blob = self._bucket.blob(self._name)
        try:
            blob.upload_from_string(content, if_generation_match=generation or 0)
        except PreconditionFailed:
            return None
        return blob.generation

    def delete(self, generation: int) -> None:
        """Deletes the object, if it is still in `generation`."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with contextlib.suppress(NotFound, PreconditionFailed):
            self._bucket.blob(self._name).delete(if_generation_match=generation)
