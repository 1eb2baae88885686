"""The files of ONNX Runtime Web that the page needs, from its npm package, with their hashes.

Only the release that the tests run is taken: the page's hashes are part of what `check` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshconvert.digest import stream_sha256
from sshconvert.errors import UsageError
from sshconvert.reading import open_regular


@dataclass(frozen=True)
class Vendored:
    """Files of another project, an npm package under MIT: SHA-256 by file name, and the folder in a package."""

    name: str
    version: str
    copyright: str
    folder: str
    sha256: Mapping[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by path in the package."""
        return {f"{self.folder}/{name}": digest for name, digest in self.sha256.items()}

    def sources(self, folder: Path | None) -> dict[str, Path]:
        """Return the files in `folder` by path in the package. Raises UsageError for other files, or none."""
        remedy = f"`npm install {self.name}@{self.version}`, and give --runtime-files node_modules/{self.name}/dist"
        if folder is None:
            raise UsageError(f"--layout web: the page needs {self.name}; run {remedy}")
        for name, digest in self.sha256.items():
            try:
                with open_regular(folder / name) as file:
                    is_same = stream_sha256(file) == digest
            except OSError as error:
                raise UsageError(f"{folder / name}: cannot be opened ({error.strerror}); run {remedy}") from None
            if not is_same:
                raise UsageError(f"{folder / name}: is not of {self.name} {self.version}; run {remedy}")
        return {f"{self.folder}/{name}": folder / name for name in self.sha256}


RUNTIME: Final = Vendored(
    "onnxruntime-web",
    "1.30.0",
    "Copyright (c) Microsoft Corporation",
    "web/runtime",
    {
        "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    },
)
