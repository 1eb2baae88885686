"""Every error that sshtool raises on purpose: one tree, one line a message.

A message names the file (or the thing), the place in it, and the remedy. The command line prints it and
exits with `exit_code`; nothing else in the project prints or exits.
"""


class SSHToolError(Exception):
    """Base of all the project's errors."""

    exit_code = 1


class ParamsError(SSHToolError):
    """A `.params` file that does not follow the format, or that the format allows but no checkpoint needs."""


class SymbolError(SSHToolError):
    """A symbol JSON file that is malformed or refers to something that is not there."""


class UnsupportedGraphError(SSHToolError):
    """A well-formed graph with operators, attributes or values that sshtool does not convert; all are listed."""


class ShapeError(SSHToolError):
    """Shapes that do not fit: an input size the network cannot take, or a weight of another shape."""


class CheckpointError(SSHToolError):
    """A checkpoint whose files or parameters are missing, unexpected or not what they were said to be."""


class ArchiveError(SSHToolError):
    """An archive that cannot be opened, is not the pinned one, or holds something other than the model's files."""


class ModelError(SSHToolError):
    """An unknown model name, or a model description (TOML) that does not follow the schema."""


class PreprocessingError(SSHToolError):
    """A graph whose input does not meet what folding the preprocessing needs."""


class PrecisionError(SSHToolError):
    """Weights that the wanted precision cannot hold."""


class DownloadError(SSHToolError):
    """Nothing could be downloaded."""


class OutputError(SSHToolError):
    """A result cannot be written where it was asked for."""


class ArtifactError(SSHToolError):
    """A converted model that is missing, cannot be loaded, or cannot be run on what it was given."""


class ReferencePackError(SSHToolError):
    """A reference pack that is malformed, or that belongs to another checkpoint, model or input size."""


class ImageError(SSHToolError):
    """An image file that cannot be read."""


class RuntimeUnavailableError(SSHToolError):
    """A runtime or library that a verb needs is not installed here."""


class DetectionError(SSHToolError):
    """Head tensors that are missing or whose shapes do not belong to the model."""


class NonfiniteError(DetectionError):
    """Outputs of a converted model that hold NaN or infinity, for one image."""


class ConfigError(SSHToolError):
    """The user's config file cannot be read, or says something that it cannot say."""


class DatasetError(SSHToolError):
    """A data set whose annotations or ground truth are missing, malformed or contradict one another."""


class EvaluationError(SSHToolError):
    """Predictions or records of an evaluation that cannot be read or do not belong together."""


class PackageError(SSHToolError):
    """A package, or what it is to be made of, that is missing, malformed or contradicts itself."""


class UsageError(SSHToolError):
    """Options that are unknown, contradict one another or cannot be read."""

    exit_code = 2


class VerificationError(SSHToolError):
    """The comparison ran and found a difference that is not acceptable."""

    exit_code = 3
