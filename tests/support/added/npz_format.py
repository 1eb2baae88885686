"""A made-up format: the weights as a NumPy archive, with the contract as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sshconvert.contract import Contract
from sshconvert.errors import ArtifactError
from sshconvert.files import staged
from sshconvert.formats.base import ExportedNetwork, Format
from sshconvert.formats.registry import FORMATS


@FORMATS.register("npz")
class Npz(Format):
    key = "npz"
    suffix = ".npz"

    @classmethod
    def write(cls, network: ExportedNetwork, contracts: Mapping[Path, Contract]) -> None:
        for path, contract in contracts.items():
            weights = network.models[contract.precision].initializers
            with staged(path) as part, part.open("wb") as file:
                np.savez(file, allow_pickle=False, contract=np.array(json.dumps(contract.to_plain())), **weights)

    @classmethod
    def screen(cls, path: Path) -> None:
        cls.read_contract(path)

    @classmethod
    def read_contract(cls, path: Path) -> Contract:
        try:
            with np.load(path, allow_pickle=False) as archive:
                return Contract.from_plain(json.loads(str(archive["contract"])))
        except (OSError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: is no archive of weights ({error}); convert again") from None
