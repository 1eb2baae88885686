"""Loading a file with its runtime, in the sandbox if there is one."""

from __future__ import annotations

from pathlib import Path

from sshconvert.errors import ArtifactError, UsageError
from sshconvert.messages import listed
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file
from sshconvert.schema import one_line
from sshtool.runtimes.base import Runtime, Settings
from sshtool.runtimes.registry import runtimes_for, usual_runtime
from sshtool.runtimes.sandboxed import SandboxedRuntime
from sshtool.sandbox import confined


def load(path: Path, model: ModelSpec, settings: Settings = Settings(), *, key: str = "") -> Runtime:  # noqa: B008  # frozen
    """Load a file with the runtime `key`, or with the usual runtime of its format.

    Raises UsageError if no runtime loads the file or computes in the precision, and what `Runtime.load` raises.
    """
    runtime = usual_runtime(path, key)
    precision = settings.inference_precision
    if precision not in runtime.inference_precisions:
        raise UsageError(
            f"--inference-precision: {path} is for {runtime.name}, which cannot compute in {precision} on request; "
            f"omit the option, or load a file with --runtime {' or '.join(runtimes_for(precision))}"
        )
    if not is_file(path):
        raise ArtifactError(f"{path}: does not exist; make it with `sshtool convert`")
    limits = confined()
    if limits is None or not runtime.needs_sandbox:
        loaded = runtime.load(path, model, settings)
    else:
        loaded = SandboxedRuntime(runtime, path, model, settings, limits)
    if bool(loaded.declaration.tensors) == model.takes_image:
        declared, wanted = ("an image", "tensors")[:: 1 if not loaded.declaration.tensors else -1]
        raise ArtifactError(f"{path}: takes {declared}, and {model.name} takes {wanted}; give a file of this model")
    names = {tensor.name for tensor in loaded.declaration.tensors}
    if names and names != set(model.input_shapes):
        raise ArtifactError(
            f"{path}: takes {one_line(listed(sorted(names), ', '))}, and {model.name} takes "
            f"{', '.join(model.input_shapes)}; give a file of this model"
        )
    return loaded
