"""Options that several verbs share: single options as Annotated types, groups of options as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from sshconvert.errors import UsageError
from sshtool import limits
from sshtool.cli.parsing import check_counts, check_exclusive, choice, choices, input_of, mean_of, shape_of

if TYPE_CHECKING:
    from sshconvert.checkpoint import CheckpointFiles
    from sshconvert.graph import Shape
    from sshconvert.models.spec import ImageSpec, InputSpec, ModelSpec
    from sshconvert.options import Options, Postprocessing
    from sshtool.checkpoint.download import DownloadOptions
    from sshtool.cli.session import Session
    from sshtool.quantization import QuantizationOptions
    from sshtool.runtimes.base import Settings
    from sshtool.workspace import Workspace


@dataclass(frozen=True)
class Option:
    """An option's help, short name, bounds and known values. The field gives its name.

    A dataclass of options may name the panel of its options in the help as `PANEL`. `--help` leaves out the `rare`
    ones, and `--help-all` shows them.
    """

    text: str
    short: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    panel: str = ""
    rare: bool = False


ARTIFACTS: Final = "Artifacts"
POSTPROCESSING: Final = "With --postprocess"
INT8: Final = "With --precision INT8"
CHECKPOINT: Final = "Checkpoint"
RUNTIME: Final = "Runtime"
OUTPUT: Final = "Output"

# The known values of options, for the help and the completion. Importing the enumerations would make both slow.
PRECISIONS: Final = ("FP32", "FP16", "INT8")
FORMAT_NAMES: Final = ("onnx", "openvino", "ncnn")
RUNTIME_NAMES: Final = ("onnxruntime", "openvino", "ncnn", "mxnet")
COMPUTING_PRECISIONS: Final = ("f32", "bf16")
COLORS: Final = ("rgb", "bgr")

MANY: Final = f"at most {limits.MOST_NAMED} of them"

OutputDir = Annotated[Path, Option("Folder of checkpoints, artifacts and packages.", short="-o", panel="Model")]
DryRun = Annotated[bool, Option("List the files, and write nothing.", short="-n", panel=OUTPUT)]
CheckpointPath = Annotated[
    Path | None,
    Option("A folder, .params file or archive; by default the downloaded one.", short="-c", panel=CHECKPOINT),
]
InputShape = Annotated[
    str,
    Option(
        f"N,C,H,W; by default the model's; at most N={limits.MOST_AT_ONCE}, N*H*W={limits.MOST_PIXELS}.",
    ),
]
AllowNonfinite = Annotated[
    bool, Option("Take weights that are NaN or infinite, and report their number.", panel=CHECKPOINT, rare=True)
]
OneArtifact = Annotated[Path | None, Option("A converted model; by default that of `convert`, FP32 first.", short="-a")]
Artifacts = Annotated[
    tuple[Path, ...],
    Option("A converted model, repeatable; by default all of `convert`.", short="-a"),
]
Scenes = Annotated[int, Option("Number of drawn scenes to compare on.", min=2, max=limits.MOST_SCENES, rare=True)]
Device = Annotated[str, Option("Device of the runtime.", panel=RUNTIME, rare=True)]
Threads = Annotated[
    int,
    Option(
        f"At most {limits.THREADS_OF_A_CORE} for each core; 0: the runtime chooses.",
        min=0,
        max=limits.MOST_THREADS,
        panel=RUNTIME,
        rare=True,
    ),
]
HtmlPath = Annotated[Path | None, Option("Write the report as one page.", panel=OUTPUT)]


@dataclass(frozen=True)
class Output:
    """How a verb prints progress, result and errors."""

    PANEL: ClassVar[str] = OUTPUT

    quiet: Annotated[bool, Option("Print the result only, no progress.", short="-q")] = False
    json: Annotated[bool, Option("Print one JSON document on stdout.")] = False
    debug: Annotated[bool, Option("Show the traceback of an error.", rare=True)] = False

    def session(self, verb: str, **more: Any) -> Session:
        from sshtool.cli.session import Session

        return Session(verb, json=self.json, quiet=self.quiet, debug=self.debug, **more)


@dataclass(frozen=True)
class LineOutput(Output):
    """An `Output` whose --json prints a document for each image."""

    json: Annotated[bool, Option("Print one JSON document a line on stdout, for each image.")] = False


USUAL_MODEL: Final = "ssh-mxnet"


@dataclass(frozen=True)
class Place:
    """The model and the output folder."""

    PANEL: ClassVar[str] = "Model"

    model: Annotated[
        str,
        Option("A model's name, or a TOML file; by default ssh-mxnet.", short="-m", panel="Model"),
    ] = ""
    output_dir: OutputDir = Path("artifacts")

    def workspace(self) -> Workspace:
        from sshconvert.models.registry import load_model
        from sshtool.workspace import Workspace

        return Workspace(load_model(self.model or USUAL_MODEL), self.output_dir)


@dataclass(frozen=True)
class Network(Place):
    """The model, or the files and the inputs of a network without a description."""

    PANEL: ClassVar[str] = "Network without a description"

    symbol: Annotated[Path | None, Option("Its symbol file. The outputs are tensors.")] = None
    params: Annotated[Path | None, Option("Its parameters; by default the symbol is beside them.")] = None
    epoch: Annotated[
        int | None,
        Option(
            "With --checkpoint PREFIX: the files are PREFIX-symbol.json and PREFIX-<epoch>.params.",
            min=0,
            max=limits.MOST_EPOCH,
            rare=True,
        ),
    ] = None
    input: Annotated[
        tuple[str, ...],
        Option("Its input, such as data=1,3,112,112 or ids=1,20:int32; repeatable."),
    ] = ()
    outputs: Annotated[
        tuple[str, ...],
        Option("Inner tensors as outputs, by MXNet's names; several with commas, or repeated.", rare=True),
    ] = ()
    mean: Annotated[
        str,
        Option(
            "Its input is an image minus this: a number for each channel in the order of --color, or one.", rare=True
        ),
    ] = ""
    scale: Annotated[
        float | None,
        Option("Its input is an image times this, after --mean.", min=0, max=limits.MOST_SCALE, rare=True),
    ] = None
    color: Annotated[
        str,
        Option("Its input is an image of these channels; rgb with --mean or --scale alone.", choices=COLORS, rare=True),
    ] = ""

    def open(self, checkpoint: Path | None = None) -> tuple[Workspace, Path | CheckpointFiles | None]:
        """The workspace, and the checkpoint if options name one. Raises UsageError, ModelError and CheckpointError."""
        files = self.files(checkpoint)
        if files is None:
            return self.workspace(), checkpoint
        if self.model:
            return self.workspace(), files
        from sshconvert.undescribed import describe
        from sshtool.workspace import Workspace

        model = describe(files, self.inputs(), outputs=self.output_names(), image=self._image())
        return Workspace(model, self.output_dir, files), files

    def files(self, checkpoint: Path | None = None) -> CheckpointFiles | None:
        """The files of a network without a description, or of a prefix and an epoch; None if no option names them.

        Raises UsageError and CheckpointError.
        """
        if self.epoch is not None and checkpoint is None:
            raise UsageError("--epoch: give the prefix of the files with --checkpoint too")
        given = self.given()
        if self.model and given:
            raise UsageError(f"--model and {given[0]} contradict each other; give one")
        return self._named_files(checkpoint) if given or self.epoch is not None else None

    def given(self) -> list[str]:
        """The names of the given options of a network without a description."""
        own: dict[str, object] = {"--symbol": self.symbol, "--params": self.params, "--input": self.input}
        own |= {"--outputs": self.outputs, "--mean": self.mean, "--scale": self.scale, "--color": self.color}
        return [option for option, value in own.items() if value not in (None, "", ())]

    def inputs(self) -> list[InputSpec]:
        """The given inputs. Raises UsageError."""
        check_counts({"--input": self.input})
        return [input_of(text) for text in self.input]

    def output_names(self) -> list[str]:
        """The given outputs."""
        check_counts({"--outputs": self.outputs})
        return [name.strip() for text in self.outputs for name in text.split(",") if name.strip()]

    def _named_files(self, checkpoint: Path | None) -> CheckpointFiles:
        from sshconvert.checkpoint import CheckpointFiles, symbol_beside
        from sshconvert.reading import is_file, is_there

        if checkpoint is not None:
            if self.symbol or self.params:
                raise UsageError("--checkpoint and --symbol or --params contradict each other; give one")
            return CheckpointFiles.of(checkpoint, self.epoch)
        if self.symbol is None and self.params is None:
            raise UsageError(
                "--input, --outputs, --mean, --scale, --color: name the network with --symbol and --params"
            )
        if self.symbol is None:
            assert self.params is not None
            symbol = symbol_beside(self.params)
            if is_file(self.params) and not is_there(symbol):
                raise UsageError(f"--params: {symbol} does not exist; put the symbol there, or give --symbol FILE")
            return CheckpointFiles(symbol, self.params)
        return CheckpointFiles(self.symbol, self.params)

    def _image(self) -> ImageSpec | None:
        from sshconvert.models.spec import ImageSpec

        if not (self.mean or self.color or self.scale is not None):
            return None
        if self.scale == 0:
            raise UsageError("--scale: 0 leaves nothing of the image; give a number above 0")
        color = choice("--color", self.color or "rgb", COLORS)
        return ImageSpec.model_validate({"color": color, "mean": mean_of(self.mean), "scale": self.scale})


@dataclass(frozen=True)
class Confinement:
    """The limits of the child process that runs models."""

    PANEL: ClassVar[str] = RUNTIME

    memory_limit: Annotated[
        float | None,
        Option(
            "Memory of the process that runs models, in gigabytes (on Linux); by default 8, or half of the machine's "
            "if that is more.",
            min=limits.LEAST_MEMORY,
            max=limits.MOST_MEMORY,
            rare=True,
        ),
    ] = None
    time_limit: Annotated[
        float,
        Option(
            "Seconds that a model may take to load, and to compute each answer.",
            min=limits.SHORTEST_PATIENCE,
            max=limits.LONGEST_PATIENCE,
            rare=True,
        ),
    ] = 300.0

    def apply(self) -> None:
        from sshtool.sandbox import GIGABYTE, Limits, confine, usual_memory

        memory = usual_memory() if self.memory_limit is None else int(self.memory_limit * GIGABYTE)
        confine(Limits(memory, self.time_limit))


@dataclass(frozen=True)
class Computing:
    """The runtime and its settings."""

    PANEL: ClassVar[str] = RUNTIME

    runtime: Annotated[str, Option("By default the usual runtime of the file.", short="-r", choices=RUNTIME_NAMES)] = ""
    device: Device = "CPU"
    threads: Threads = 0
    inference_precision: Annotated[
        str,
        Option(
            "Type that the runtime computes in; bf16 if OpenVINO and the CPU support it.",
            choices=COMPUTING_PRECISIONS,
            rare=True,
        ),
    ] = "f32"

    def settings(self, *, allow_nonfinite: bool) -> Settings:
        return settings_of(self.device, self.threads, self.inference_precision, allow_nonfinite=allow_nonfinite)


def settings_of(device: str, threads: int, inference_precision: str = "f32", *, allow_nonfinite: bool) -> Settings:
    """The settings of a runtime. Raises UsageError."""
    from sshtool.runtimes.base import INFERENCE_PRECISIONS, Settings

    limits.check_threads("--threads", threads)
    precision = choice("--inference-precision", inference_precision, INFERENCE_PRECISIONS)
    return Settings(device, threads, allow_nonfinite, inference_precision=precision)


@dataclass(frozen=True)
class Fetching:
    """The origin of a checkpoint, and where `download` looks for the archive."""

    PANEL: ClassVar[str] = CHECKPOINT

    demo: Annotated[bool, Option("Make the demo checkpoint, which detects drawn faces only.")] = False
    from_archive: Annotated[Path | None, Option("Unpack an archive that you have.")] = None
    source: Annotated[
        tuple[str, ...],
        Option(
            f"A mirror of the archive: an https URL, a folder or a file. Repeatable, {MANY}; `download` tries it "
            "before SSHTOOL_SOURCES, the config file's sources and the model's own.",
            rare=True,
        ),
    ] = ()
    offline: Annotated[bool, Option("Use the cache and local mirrors only, never the network.", rare=True)] = False
    cache_dir: Annotated[
        Path | None, Option("Folder of downloaded archives; by default the platform's cache folder.", rare=True)
    ] = None
    allow_unverified: Annotated[
        bool, Option("Take an archive whose hash is not that of the published one.", rare=True)
    ] = False

    def options(self, *, allow_nonfinite: bool, checkpoint: Path | None = None) -> DownloadOptions:
        """The options of a download. Raises UsageError if several of them name an origin of the checkpoint."""
        from sshtool.checkpoint.download import DownloadOptions

        check_counts({"--source": self.source})
        origins = {"--demo": self.demo, "--from-archive": self.from_archive, "--checkpoint": checkpoint}
        check_exclusive({**origins, "--source": self.source})
        own = (self.demo, self.from_archive, self.source, self.offline, self.cache_dir, self.allow_unverified)
        return DownloadOptions(*own, allow_nonfinite)


@dataclass(frozen=True)
class Conversion:
    """Formats and precisions of the artifacts, and the form of their inputs and outputs."""

    PANEL: ClassVar[str] = ARTIFACTS

    precision: Annotated[tuple[str, ...], Option("Several with commas.", short="-p", choices=PRECISIONS)] = ("FP32",)
    format: Annotated[tuple[str, ...], Option("Several with commas.", short="-f", choices=FORMAT_NAMES)] = (
        "onnx,openvino",
    )
    input_shape: InputShape = ""
    batch: Annotated[
        int, Option("Images in a batch; 0: the batch of the input shape.", min=0, max=limits.MOST_AT_ONCE, rare=True)
    ] = 0
    dynamic: Annotated[str, Option("Dimensions that stay free.", choices=("none", "batch", "size", "all"))] = "none"
    input_layout: Annotated[str, Option("By default the model's.", choices=("NCHW", "NHWC"), rare=True)] = ""
    input_dtype: Annotated[
        str, Option("u8 as images have it; both from 0 to 255.", choices=("f32", "u8"), rare=True)
    ] = "f32"
    input_color: Annotated[
        str, Option("By default bgr, also if the original takes rgb.", choices=COLORS, rare=True)
    ] = ""
    postprocess: Annotated[bool, Option("Put decoding and suppression into the model.")] = False
    score_threshold: Annotated[
        float | None,
        Option("The least score; by default the model's.", min=0, max=1, panel=POSTPROCESSING, rare=True),
    ] = None
    iou_threshold: Annotated[
        float | None,
        Option(
            "Least overlap (IoU) to suppress a box; by default the model's.",
            min=0,
            max=1,
            panel=POSTPROCESSING,
            rare=True,
        ),
    ] = None
    top_k: Annotated[
        int, Option("Most results of an image.", min=1, max=limits.MOST_RESULTS, panel=POSTPROCESSING, rare=True)
    ] = 1000
    keep_heads: Annotated[bool, Option("Keep the heads as outputs.", panel=POSTPROCESSING, rare=True)] = False
    output_form: Annotated[
        str,
        Option(
            "model-api is the form of OpenVINO's Model API: boxes with scores, and labels.",
            choices=("plain", "model-api"),
            panel=POSTPROCESSING,
            rare=True,
        ),
    ] = "plain"
    calibration_data: Annotated[
        Path | None, Option("A folder of images like those of its use; the demo draws its own.", panel=INT8, rare=True)
    ] = None
    max_drop: Annotated[
        float | None,
        Option(
            "Most points to lose of AP@0.5, of the mean cosine or of top-1 agreement; layers stay in float "
            "until the loss is small enough.",
            min=0,
            max=limits.MOST_POINTS,
            panel=INT8,
            rare=True,
        ),
    ] = None
    no_preprocessing: Annotated[bool, Option("Keep the original's input, such as RGB minus the mean.", rare=True)] = (
        False
    )

    def options(self, model: ModelSpec) -> Options:
        """The options of the conversion. Raises UsageError."""
        from sshconvert.formats.registry import FORMATS
        from sshconvert.model_api import takes_one_image
        from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Precision
        from sshconvert.tasks.inside import OutputForm

        shape, postprocessing = self._shape(model), self._postprocessing()
        if not model.takes_image and self.input_color:
            raise UsageError(f"--input-color: {model.name} takes tensors; describe an image with --color")
        if model.takes_image and self.no_preprocessing and self.input_color.casefold() not in ("", model.image.color):
            raise UsageError(
                f"--input-color: the original takes {model.image.color}; leave out --no-preprocessing to feed another"
            )
        options = Options(
            formats=tuple(choices("--format", self.format, list(FORMATS))),
            precisions=tuple(map(Precision, choices("--precision", self.precision, list(Precision)))),
            input_shape=shape,
            preprocessing=not self.no_preprocessing,
            dynamic=Dynamic(choice("--dynamic", self.dynamic, list(Dynamic))),
            layout=Layout(choice("--input-layout", self.input_layout or _own_layout(model), list(Layout))),
            input_type=InputType(choice("--input-dtype", self.input_dtype, list(InputType))),
            color=Color(choice("--input-color", self.input_color or Color.BGR, list(Color))),
            postprocessing=postprocessing,
        )
        if postprocessing and postprocessing.form is OutputForm.MODEL_API and not takes_one_image(model, options):
            raise UsageError(
                "--output-form: Model API feeds one image of a fixed size; leave out --dynamic, and give a batch of 1"
            )
        return options

    def quantization(self) -> QuantizationOptions:
        from sshtool.quantization import QuantizationOptions

        return QuantizationOptions(self.calibration_data, self.max_drop)

    def _shape(self, model: ModelSpec) -> Shape | None:
        """The input shape with --batch images; None for the model's own."""
        shape = shape_of(self.input_shape)
        if not model.takes_image and (shape or self.batch):
            raise UsageError(f"--input-shape, --batch: {model.name} takes tensors; give their shapes with --input")
        if not self.batch:
            return shape
        if shape and shape[0] not in (1, self.batch):
            raise UsageError(f"--batch: {self.batch} contradicts --input-shape, which begins with {shape[0]}; give one")
        batched = (self.batch, *(shape or model.image_shape)[1:])
        limits.check_shape("--batch", batched)
        return batched

    def _postprocessing(self) -> Postprocessing | None:
        from sshconvert.options import Postprocessing
        from sshconvert.tasks.inside import OutputForm

        form = OutputForm(choice("--output-form", self.output_form, list(OutputForm)))
        postprocessing = Postprocessing(self.score_threshold, self.iou_threshold, self.top_k, self.keep_heads, form)
        if not self.postprocess:
            if postprocessing != Postprocessing():
                raise UsageError(
                    "--score-threshold, --iou-threshold, --top-k, --keep-heads, --output-form: give --postprocess too"
                )
            return None
        for option, value in (("--score-threshold", self.score_threshold), ("--iou-threshold", self.iou_threshold)):
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"{option}: {value:g} is not above 0 and at most 1")
        return postprocessing


def _own_layout(model: ModelSpec) -> str:
    is_last = model.takes_image and model.image_input.is_channels_last
    return "NHWC" if is_last else "NCHW"
