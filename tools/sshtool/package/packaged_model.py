"""Describes a packaged model from its contract."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pydantic

from sshconvert.contract import Contract
from sshconvert.errors import ArtifactError
from sshconvert.formats.registry import format_of
from sshconvert.schema import one_line, problems
from sshtool.package.layouts import Layout
from sshtool.package.manifest import PackagedModel, Thresholds
from sshtool.runtimes.sandboxed import SERVICE
from sshtool.sandbox import confined, shared_child

DEFAULT_PRECISION: Final = "FP32"  # of a file that declares none


def read_contract(path: Path) -> Contract:
    """Read the contract of an artifact, in the sandbox if `confine` has set one up. Raises ArtifactError."""
    limits = confined()
    if limits is None:
        return _read(path)
    return Contract.from_plain(shared_child(SERVICE, limits).call(f"{__name__}:read_plain", path))


def read_plain(path: Path) -> Any:
    """The contract as JSON values, for the sandbox's parent process."""
    return _read(path).to_plain()


def _read(path: Path) -> Contract:
    try:
        contract = format_of(path).read_contract(path)
        contract.declaration(path)
    except (IndexError, KeyError, ValueError, TypeError) as error:  # tensors without names, or of unknown types
        raise ArtifactError(f"{path}: its inputs or outputs make no sense ({one_line(error)}); convert again") from None
    return contract


def packaged_model(path: Path, contract: Contract, model: str, layout: Layout, *, verified: bool) -> PackagedModel:
    """Describe the artifact `path` for the manifest of a package in that layout.

    Raises ArtifactError if the contract does not fit the manifest's schema.
    """
    declaration = contract.declaration(path)
    form = format_of(path).key
    precision = declaration.precision or DEFAULT_PRECISION
    main = layout.main_file(model, form, precision)
    inside = declaration.faces
    try:
        return PackagedModel.model_validate(
            {
                "label": f"{form} {precision}",
                "format": form,
                "precision": precision,
                "path": main,
                "files": layout.files(main, form),
                "input": asdict(contract.inputs[0]),
                "other_inputs": tuple(map(asdict, declaration.tensors[1:])),
                "outputs": tuple(map(asdict, contract.outputs)),
                # Images do not depend on each other. The steps of a sequence do, whatever their dimension is called.
                "batched": contract.batched and declaration.input_layout != "",
                "input_layout": declaration.input_layout,
                "color_order": declaration.color_order,
                "mean_values": declaration.mean_values,
                "postprocessing": Thresholds(**asdict(inside)) if inside else None,
                "options": dict(sorted(contract.metadata.items())),
                "verified": verified,
            }
        )
    except pydantic.ValidationError as error:
        raise ArtifactError(f"{path}: no package can hold it ({problems(error)}); convert again") from None
