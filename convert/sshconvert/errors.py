"""The errors that sshtool raises.

A message is one line with the file, the place in the file, and the remedy. Only the command line prints messages and
exits, with the error's `exit_code`.
"""


class SSHToolError(Exception):
    """Base of all errors of the project."""

    exit_code = 1


class ParamsError(SSHToolError):
    """A `.params` file that breaks the format, or holds what no checkpoint needs."""


class SymbolError(SSHToolError):
    """A symbol JSON file that is malformed or has a dangling reference."""


class UnsupportedGraphError(SSHToolError):
    """Unsupported operators, attributes or values in a well-formed graph. The message lists all of them."""


class ShapeError(SSHToolError):
    """An input size that the network cannot take, or a weight of the wrong shape."""


class CheckpointError(SSHToolError):
    """Missing, unexpected or altered files or parameters of a checkpoint."""


class ArchiveError(SSHToolError):
    """An archive that cannot be opened, is not the pinned one, or does not hold exactly the model's files."""


class ModelError(SSHToolError):
    """An unknown model name, or a model description (TOML) that does not follow the schema."""


class PreprocessingError(SSHToolError):
    """An input into which preprocessing cannot be folded."""


class PrecisionError(SSHToolError):
    """Weights that the requested precision cannot hold."""


class FormatError(SSHToolError):
    """An option or a network that the requested format has no form for."""


class DownloadError(SSHToolError):
    """A download that failed from every source."""


class OutputError(SSHToolError):
    """An output path that cannot be written."""


class ArtifactError(SSHToolError):
    """A converted model that is missing, cannot be loaded, or cannot run on its input."""


class ReferencePackError(SSHToolError):
    """A reference pack that is malformed or belongs to another checkpoint, model or input size."""


class ImageError(SSHToolError):
    """An image file that cannot be read."""


class VideoError(ImageError):
    """A video file or camera that cannot be read, or a video that cannot be written."""


class RuntimeUnavailableError(SSHToolError):
    """A runtime or library that is not installed."""


class DetectionError(SSHToolError):
    """Head tensors that are missing or have shapes of another model."""


class NonfiniteError(DetectionError):
    """NaN or infinity in a converted model's outputs for one image."""


class ConfigError(SSHToolError):
    """A config file that cannot be read or holds an invalid setting."""


class DatasetError(SSHToolError):
    """Missing, malformed or contradictory annotations or ground truth of a data set."""


class ClusterError(SSHToolError):
    """A Dask cluster that cannot be reached, has other versions, or fails beyond what can be repeated."""


class EvaluationError(SSHToolError):
    """Predictions or records of an evaluation that cannot be read or do not belong together."""


class PackageError(SSHToolError):
    """A package, or an input of one, that is missing, malformed or contradicts itself."""


class UsageError(SSHToolError):
    """Options that are unknown, contradictory or malformed."""

    exit_code = 2


class VerificationError(SSHToolError):
    """A comparison that found a difference beyond the tolerance."""

    exit_code = 3
