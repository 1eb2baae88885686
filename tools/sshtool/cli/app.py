"""The command line: the one place that reads options, prints, catches and exits.

Everything heavy is imported by the verb that needs it, so that `sshtool --help` answers at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sshconvert.formats.registry import FORMATS
from sshtool import limits

if TYPE_CHECKING:
    from sshconvert.graph import Shape
    from sshconvert.options import Faces, Options
    from sshtool.runtimes.base import Settings
    from sshtool.workspace import Workspace


class _Program(TyperGroup):
    """Reports wrong usage as a verb reports wrong input: one line, or one JSON document."""

    _json = False

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **extra: Any) -> Any:
        self._json = "--json" in args  # what is wrong with the other options does not matter for that
        with self._one_line_errors():
            return super().make_context(info_name, args, *arguments, **extra)

    def invoke(self, ctx: Any) -> Any:
        with self._one_line_errors():
            return super().invoke(ctx)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            describe = getattr(error, "format_message", None)  # Typer's own errors have it, and quote the user's words
            if describe is None or type(error).__name__ == "NoArgsIsHelpError":  # the latter is the help itself
                raise
            _report_usage(describe(), getattr(error, "ctx", None), json=self._json)


def _report_usage(message: str, context: Any, *, json: bool) -> None:
    from sshconvert.errors import UsageError
    from sshtool.cli.session import Session

    verb = context.info_name if context and context.parent else ""
    with Session(verb, json=json and bool(verb), quiet=True, debug=False, lines=True):
        raise UsageError(f"{message.rstrip('.')}; see {f'sshtool {verb}'.strip()} --help")


app = typer.Typer(
    cls=_Program,
    name="sshtool",
    help="Move face detectors such as ssh-mxnet from MXNet to ONNX and OpenVINO, and see that they stayed the same.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Open Model Zoo's users type underscores.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


def _print_version(asked: bool) -> None:
    if asked:
        from sshconvert import __version__

        typer.echo(f"sshtool {__version__}")  # noqa: TID251  # before there is a Session
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_MANY = f"at most {limits.MOST_NAMED} of them"

ModelName = Annotated[str, typer.Option("--model", help="Which model.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", "-o", help="Where checkpoints and artifacts go.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
CheckpointPath = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="A folder, a .params file or an archive; by default the downloaded one."),
]
Precisions = Annotated[
    list[str], typer.Option("--precision", help="FP32, FP16, INT8; several with commas, or repeated.")
]
Formats = Annotated[list[str], typer.Option("--format", help="onnx, openvino; several with commas, or repeated.")]
InputShape = Annotated[
    str,
    typer.Option(
        "--input-shape",
        help="N,C,H,W instead of the model's own. Sizes need not divide by 32. "
        f"At most N={limits.MOST_AT_ONCE} and N*H*W={limits.MOST_PIXELS}.",
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch", min=0, max=limits.MOST_AT_ONCE, help="How many images go in at once; 0 is what the shape says."
    ),
]
DynamicDimensions = Annotated[
    str, typer.Option("--dynamic", help="none, batch, size or all: which dimensions every run may choose.")
]
InputLayout = Annotated[str, typer.Option("--input-layout", help="NCHW or NHWC.")]
InputDtype = Annotated[str, typer.Option("--input-dtype", help="f32, or u8 as images have it; 0-255 in both.")]
InputColor = Annotated[str, typer.Option("--input-color", help="bgr or rgb; by default bgr, the original's is rgb.")]
Postprocess = Annotated[
    bool, typer.Option("--postprocess", help="Let the model give boxes, scores and count instead of its heads.")
]
ScoreThreshold = Annotated[
    float | None,
    typer.Option(
        "--score-threshold", min=0, max=1, help="With --postprocess: the least score; by default the model's."
    ),
]
IouThreshold = Annotated[
    float | None,
    typer.Option(
        "--iou-threshold",
        min=0,
        max=1,
        help="With --postprocess: from this overlap on, the lower score goes; by default the model's.",
    ),
]
TopK = Annotated[
    int,
    typer.Option(
        "--top-k", min=1, max=limits.MOST_FACES, help="With --postprocess: at most so many faces of an image."
    ),
]
KeepHeads = Annotated[bool, typer.Option("--keep-heads", help="With --postprocess: the heads too.")]
NoPreprocessing = Annotated[
    bool, typer.Option("--no-preprocessing", help="Keep the original's input: RGB, minus the mean.")
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--calibration-data", help="For INT8: a folder of images such as the detector will see; the demo draws its own."
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        min=0,
        max=limits.MOST_POINTS,
        help="For INT8: how many points of AP@0.5 it may lose; layers are left in float until it is kept.",
    ),
]
Demo = Annotated[bool, typer.Option("--demo", help="Make the demo checkpoint: it finds drawn faces, not real ones.")]
FromArchive = Annotated[
    Path | None,
    typer.Option("--from-archive", help="An archive that you have, such as ssh-model-final.zip."),
]
AllowUnverified = Annotated[
    bool, typer.Option("--allow-unverified", help="Take an archive that is not the one upstream published.")
]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Take weights that are NaN or infinite, and say how many there are.")
]
FetchSources = Annotated[
    list[str],
    typer.Option(
        "--source",
        help=f"A mirror of the archive: an https URL, a folder or a file. Repeatable, {_MANY}; tried before "
        "SSHTOOL_SOURCES, the config file's and the model's own.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never use the network: only the cache, and mirrors that are files.")
]
CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Where downloaded archives are kept; by default the platform's place for caches."),
]
ProgressFormat = Annotated[
    str, typer.Option("--progress-format", help="text, or json: Open Model Zoo's events, one a line, on stdout.")
]

ImageArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE",
        help="Image files, folders (the images in them, not in folders inside) and patterns such as 'photos/**/*.jpg'; "
        f"at most {limits.MOST_FILES} images.",
        show_default=False,
    ),
]
DetectArtifact = Annotated[
    Path | None,
    typer.Option("--artifact", help="The converted model; by default what `convert` wrote, FP32 before the others."),
]
DetectRuntime = Annotated[
    str, typer.Option("--runtime", help="onnxruntime, openvino or mxnet; by default the usual one for the file.")
]
DetectDevice = Annotated[str, typer.Option("--device", help="A device of the runtime.")]
DetectThreads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=0,
        max=limits.MOST_THREADS,
        help=f"How many threads, at most {limits.THREADS_OF_A_CORE} for each core; 0 is the runtime's choice.",
    ),
]
InferencePrecision = Annotated[
    str, typer.Option("--inference-precision", help="What to compute in: f32, or bf16 where OpenVINO and the CPU can.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0,
        max=1,
        help="The least score, up to 1; by default 0.5, or the model's own if that is higher.",
    ),
]
MemoryLimit = Annotated[
    float | None,
    typer.Option(
        "--memory-limit",
        min=limits.LEAST_MEMORY,
        max=limits.MOST_MEMORY,
        help="Gigabytes that models may take, in the process that runs them (on Linux); by default 8, or half of what "
        "the machine has if that is more.",
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(
        "--time-limit",
        min=limits.SHORTEST_PATIENCE,
        max=limits.LONGEST_PATIENCE,
        help="Seconds that a model may take to load, and for each answer.",
    ),
]
ResizeMode = Annotated[
    str, typer.Option("--resize", help="letterbox keeps the proportions and fills the rest; stretch does not.")
]
SaveImages = Annotated[
    bool, typer.Option("--save-images", help="Write each image with its boxes to <output-dir>/<model>/detections.")
]
AsJsonLines = Annotated[bool, typer.Option("--json", help="One JSON document an image on stdout, each on a line.")]
VerifyArtifacts = Annotated[
    list[Path],
    typer.Option("--artifact", help=f"A converted model, repeatable, {_MANY}; by default all that `convert` wrote."),
]
ReferencePath = Annotated[
    Path | None,
    typer.Option("--reference", help="A reference pack, in MXNet's place."),
]
VerifyImages = Annotated[
    list[str],
    typer.Option("--images", help=f"Your own images too: a file, folder or pattern; at most {limits.MOST_VERIFIED}."),
]
Scenes = Annotated[
    int, typer.Option("--scenes", min=2, max=limits.MOST_SCENES, help="How many drawn scenes to compare on.")
]
ProfileName = Annotated[
    str, typer.Option("--profile", help="Hold all to the tolerances of FP32, FP16, BF16 or INT8, whatever they are.")
]
Atol = Annotated[
    list[str], typer.Option("--atol", help="Absolute tolerance: for all outputs, and for some: 1e-5 NAME:1e-4 …")
]
Rtol = Annotated[list[str], typer.Option("--rtol", help="Tolerance relative to the expected value, written likewise.")]
Layers = Annotated[bool, typer.Option("--layers", help="Where an output is off, name the first layer that differs.")]
SelfTest = Annotated[
    bool, typer.Option("--self-test", help="Plant faults in copies of the artifacts, and require that each is caught.")
]
PackageArtifacts = Annotated[
    list[Path],
    typer.Option("--artifact", help=f"A converted model, repeatable, {_MANY}; by default all that `convert` wrote."),
]
VerificationPath = Annotated[
    Path | None,
    typer.Option("--verification", help="What `verify --json` printed; by default what it left beside the artifacts."),
]
EvaluationPath = Annotated[
    Path | None,
    typer.Option("--evaluation", help="What `evaluate --json` printed, for the model card."),
]
BenchPath = Annotated[
    Path | None,
    typer.Option("--bench", help="What `bench --json` printed, for the model card."),
]
PackageLayout = Annotated[str, typer.Option("--layout", help="flat, huggingface, ovms or triton.")]
PackageArchive = Annotated[str, typer.Option("--archive", help="One file too: zip or tar.gz.")]
AllowUnverifiedArtifacts = Annotated[
    bool, typer.Option("--allow-unverified", help="Package what has not passed `verify`, and mark it so.")
]
PackagePathArgument = Annotated[
    Path, typer.Argument(metavar="PACKAGE", help="A package: its folder, or its archive.", show_default=False)
]
Signers = Annotated[
    Path | None,
    typer.Option("--signers", help="Keys that you trust (ssh-keygen's allowed signers): one has to have signed it."),
]
RebuildFrom = Annotated[
    Path | None,
    typer.Option("--rebuild", help="A checkpoint: convert it again, and compare the bytes."),
]
HtmlPath = Annotated[
    Path | None,
    typer.Option("--html", help="Write the report as one self-contained page."),
]
JunitPath = Annotated[
    Path | None,
    typer.Option("--junit", help="Write the report as JUnit XML, for CI."),
]
MarkdownPath = Annotated[
    Path | None,
    typer.Option("--markdown", help="Write the report as Markdown, for the summary of a job."),
]
PackPath = Annotated[
    Path | None,
    typer.Option("--file", help="Where the pack goes; by default beside the artifacts."),
]
DatasetPath = Annotated[
    Path | None,
    typer.Option("--dataset", help="The folder of WIDER FACE, as its archives unpack, or of `demo-dataset`."),
]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="omz is Open Model Zoo's measure, wider WIDER FACE's own; or both.")
]
Limit = Annotated[
    int, typer.Option("--limit", min=0, max=limits.MOST_EVALUATED, help="Only so many images, the first; 0 is all.")
]
Shard = Annotated[str, typer.Option("--shard", help="I/N: of N parts of the images, the I-th.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run with these options was interrupted.")]
Merge = Annotated[
    list[Path],
    typer.Option("--merge", help=f"Put journals of shards together: files, or folders that hold them; {_MANY}."),
]
Predictions = Annotated[
    Path | None,
    typer.Option("--predictions", help="Score a folder of predictions in WIDER FACE's text format, anybody's."),
]
SavePredictions = Annotated[
    Path | None,
    typer.Option(
        "--save-predictions", help="Write predictions there in that format; with several artifacts, a folder for each."
    ),
]
Pyramid = Annotated[bool, typer.Option("--pyramid", help="wider at the four scales of upstream's pyramid.")]
WiderResize = Annotated[
    str,
    typer.Option(
        "--resize", help="wider on artifacts of one size, by letterbox or stretch: not what upstream's figures are of."
    ),
]
BenchRuntimes = Annotated[
    list[str],
    typer.Option(
        "--runtime",
        help="onnxruntime, openvino, mxnet; several with commas, or repeated. By default the usual one of each file, "
        "and MXNet with the checkpoint, where it is installed.",
    ),
]
BenchPrecisions = Annotated[
    list[str],
    typer.Option("--inference-precision", help="What to compute in: f32, bf16; several with commas, or repeated."),
]
BenchMode = Annotated[str, typer.Option("--mode", help="latency, throughput or both.")]
Baseline = Annotated[
    str,
    typer.Option("--baseline", help="Which candidate the others are compared with: its name in the table, or file."),
]
Duration = Annotated[
    float,
    typer.Option(
        "--duration",
        min=0,
        max=limits.LONGEST_DURATION,
        help="Seconds for each candidate and mode; 10, if --runs does not say otherwise.",
    ),
]
Runs = Annotated[int, typer.Option("--runs", min=0, max=limits.MOST_RUNS, help="So many computations instead.")]
Rounds = Annotated[
    int, typer.Option("--rounds", min=1, max=limits.MOST_ROUNDS, help="In how many turns, taken by all in turn.")
]
Requests = Annotated[
    int,
    typer.Option(
        "--requests",
        min=0,
        max=limits.MOST_REQUESTS,
        help="For throughput: how many at once; 0 is the runtime's choice.",
    ),
]
FreeShape = Annotated[str, typer.Option("--input-shape", help="N,C,H,W for artifacts that take any.")]
FreeBatch = Annotated[
    int,
    typer.Option(
        "--batch", min=0, max=limits.MOST_AT_ONCE, help="How many images at once, where the artifact takes any."
    ),
]
ImageCount = Annotated[int, typer.Option("--images", min=1, max=limits.MOST_DRAWN, help="How many images to draw.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=limits.MOST_SEED, help="Which images: the same seed draws the same ones.")
]


class _ManyValues(TyperCommand):
    """Lets several values follow one option: `--atol 1e-5 NAME:1e-4`, as users of other comparers write it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _repeat_option(args, ("--atol", "--rtol", "--merge")))


def _repeat_option(args: list[str], options: tuple[str, ...]) -> list[str]:
    """Put the option's name before each of the values that follow it."""
    repeated: list[str] = []
    current = ""
    for position, arg in enumerate(args):
        if arg.startswith("-"):
            current = arg if arg in options else ""
        elif current and args[position - 1] != current:
            repeated.append(current)
        repeated.append(arg)
    return repeated


@app.command()
def download(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    demo: Demo = False,
    from_archive: FromArchive = None,
    source: FetchSources = [],  # noqa: B006  # Typer copies its defaults
    offline: Offline = False,
    cache_dir: CacheDir = None,
    allow_unverified: AllowUnverified = False,
    allow_nonfinite: AllowNonfinite = False,
    progress_format: ProgressFormat = "text",
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Get a checkpoint: download its archive, unpack one that you have, or make the demo."""
    from sshtool.cli.session import Session

    events = progress_format == "json"
    with Session("download", json=json, quiet=quiet, debug=debug, events=events) as session:
        _few({"--source": source})
        from sshtool.checkpoint.download import FetchOptions, download as verb
        from sshtool.cli.download import render

        _choice("--progress-format", progress_format, ["text", "json"])
        _exclusive({"--demo": demo, "--from-archive": from_archive is not None, "--source": bool(source)})
        result = verb(
            _workspace(model, output_dir),
            demo_checkpoint=demo,
            from_archive=from_archive,
            allow_unverified=allow_unverified,
            allow_nonfinite=allow_nonfinite,
            options=FetchOptions(tuple(source), offline, cache_dir),
            dry_run=dry_run,
            progress=session.progress,
            report=session.transfers(model),
        )
        session.finish(result, render)


@app.command()
def convert(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    checkpoint: CheckpointPath = None,
    precision: Precisions = ["FP32"],  # noqa: B006  # Typer copies its defaults
    format: Formats = ["onnx,openvino"],  # noqa: A002, B006  # the option's name; as above
    input_shape: InputShape = "",
    batch: Batch = 0,
    dynamic: DynamicDimensions = "none",
    input_layout: InputLayout = "NCHW",
    input_dtype: InputDtype = "f32",
    input_color: InputColor = "",
    postprocess: Postprocess = False,
    score_threshold: ScoreThreshold = None,
    iou_threshold: IouThreshold = None,
    top_k: TopK = 1000,
    keep_heads: KeepHeads = False,
    calibration_data: CalibrationData = None,
    max_drop: MaxDrop = None,
    no_preprocessing: NoPreprocessing = False,
    allow_nonfinite: AllowNonfinite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Convert a checkpoint to ONNX and OpenVINO IR."""
    from sshtool.cli.session import Session

    with Session("convert", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.cli.convert import render
        from sshtool.conversion import convert_checkpoint
        from sshtool.quantization import QuantizationOptions

        options = _options(
            precision,
            format,
            _batched(_shape(input_shape), batch, model),
            preprocessing=not no_preprocessing,
            dynamic=dynamic,
            layout=input_layout,
            input_type=input_dtype,
            color=input_color,
            faces=_faces(postprocess, score_threshold, iou_threshold, top_k, keep_heads),
        )
        result = convert_checkpoint(
            _workspace(model, output_dir),
            options,
            QuantizationOptions(calibration_data, max_drop),
            checkpoint=checkpoint,
            allow_nonfinite=allow_nonfinite,
            dry_run=dry_run,
            progress=session.progress,
        )
        session.finish(result, render)


@app.command()
def info(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    checkpoint: CheckpointPath = None,
    input_shape: InputShape = "",
    allow_nonfinite: AllowNonfinite = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint is: operators, shapes, size and cost beside the published figures, licences."""
    from sshtool.cli.session import Session

    with Session("info", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.checkpoint.info import info as verb
        from sshtool.cli.info import render

        result = verb(
            _workspace(model, output_dir),
            checkpoint=checkpoint,
            input_shape=_shape(input_shape),
            allow_nonfinite=allow_nonfinite,
        )
        session.finish(result, render)


@app.command()
def run(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    demo: Demo = False,
    from_archive: FromArchive = None,
    checkpoint: CheckpointPath = None,
    source: FetchSources = [],  # noqa: B006  # Typer copies its defaults
    offline: Offline = False,
    cache_dir: CacheDir = None,
    allow_unverified: AllowUnverified = False,
    precision: Precisions = ["FP32,FP16"],  # noqa: B006  # as above
    format: Formats = ["onnx,openvino"],  # noqa: A002, B006  # the option's name; as above
    input_shape: InputShape = "",
    batch: Batch = 0,
    dynamic: DynamicDimensions = "none",
    input_layout: InputLayout = "NCHW",
    input_dtype: InputDtype = "f32",
    input_color: InputColor = "",
    postprocess: Postprocess = False,
    score_threshold: ScoreThreshold = None,
    iou_threshold: IouThreshold = None,
    top_k: TopK = 1000,
    keep_heads: KeepHeads = False,
    calibration_data: CalibrationData = None,
    max_drop: MaxDrop = None,
    no_preprocessing: NoPreprocessing = False,
    allow_nonfinite: AllowNonfinite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do it all: get the checkpoint, convert it, verify every artifact against MXNet, and package what passed."""
    from sshtool.cli.session import Session

    with Session("run", json=json, quiet=quiet, debug=debug) as session:
        _few({"--source": source})
        from sshtool.checkpoint.download import FetchOptions
        from sshtool.cli.run import render
        from sshtool.pipeline import run as verb
        from sshtool.quantization import QuantizationOptions

        _exclusive(
            {
                "--demo": demo,
                "--from-archive": from_archive is not None,
                "--checkpoint": checkpoint is not None,
                "--source": bool(source),
            }
        )
        options = _options(
            precision,
            format,
            _batched(_shape(input_shape), batch, model),
            preprocessing=not no_preprocessing,
            dynamic=dynamic,
            layout=input_layout,
            input_type=input_dtype,
            color=input_color,
            faces=_faces(postprocess, score_threshold, iou_threshold, top_k, keep_heads),
        )
        result = verb(
            _workspace(model, output_dir),
            options,
            QuantizationOptions(calibration_data, max_drop),
            demo_checkpoint=demo,
            from_archive=from_archive,
            checkpoint=checkpoint,
            allow_unverified=allow_unverified,
            allow_nonfinite=allow_nonfinite,
            fetch_options=FetchOptions(tuple(source), offline, cache_dir),
            dry_run=dry_run,
            progress=session.progress,
            report_transfer=session.transfers(model),
        )
        session.finish(result, render, passed=result.passed)


@app.command(cls=_ManyValues)
def verify(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    checkpoint: CheckpointPath = None,
    artifact: VerifyArtifacts = [],  # noqa: B006  # Typer copies its defaults
    reference: ReferencePath = None,
    images: VerifyImages = [],  # noqa: B006  # as above
    scenes: Scenes = 2,
    profile: ProfileName = "",
    atol: Atol = [],  # noqa: B006  # as above
    rtol: Rtol = [],  # noqa: B006  # as above
    runtime: DetectRuntime = "",
    device: DetectDevice = "CPU",
    threads: DetectThreads = 0,
    inference_precision: InferencePrecision = "f32",
    layers: Layers = False,
    self_test: SelfTest = False,
    html: HtmlPath = None,
    junit: JunitPath = None,
    markdown: MarkdownPath = None,
    allow_nonfinite: AllowNonfinite = False,
    memory_limit: MemoryLimit = None,
    time_limit: TimeLimit = 300.0,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say, with evidence, whether artifacts compute the same detector as the original. Exit code 3 if one does not."""
    from sshtool.cli.session import Session

    with Session("verify", json=json, quiet=quiet, debug=debug) as session:
        _few({"--artifact": artifact, "--atol": atol, "--rtol": rtol})
        _confine(memory_limit, time_limit)
        from sshconvert.models.registry import load_model
        from sshtool.cli.verify import render
        from sshtool.parity.tolerances import Overrides, parse_limits
        from sshtool.parity.verification import VerifyOptions, verify_artifacts
        from sshtool.parity.verify import Rules
        from sshtool.report.verification import ReportFiles

        outputs = load_model(model).output_names
        limits = Overrides(parse_limits("--atol", atol, outputs), parse_limits("--rtol", rtol, outputs))
        options = VerifyOptions(
            artifacts=tuple(artifact),
            checkpoint=checkpoint,
            reference=reference,
            images=tuple(images),
            scenes=scenes,
            profile=profile.upper(),
            runtime=runtime,
            layers=layers,
            self_test=self_test,
            rules=Rules(limits, _settings(device, threads, allow_nonfinite, inference_precision)),
        )
        files = ReportFiles(html, junit, markdown)
        files.check()
        result = verify_artifacts(_workspace(model, output_dir), options, write=files.write, progress=session.progress)
        session.finish(result, render, passed=result.passed)


@app.command()
def reference(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    checkpoint: CheckpointPath = None,
    file: PackPath = None,
    input_shape: InputShape = "",
    scenes: Scenes = 2,
    threads: DetectThreads = 0,
    allow_nonfinite: AllowNonfinite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Store MXNet's answers in one file, so that `verify --reference` works where MXNet cannot be installed."""
    from sshtool.cli.session import Session

    with Session("reference", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.cli.reference import render
        from sshtool.parity.recording import make_reference

        result = make_reference(
            _workspace(model, output_dir),
            path=file,
            checkpoint=checkpoint,
            input_shape=_shape(input_shape),
            scenes=scenes,
            settings=_settings("CPU", threads, allow_nonfinite, "f32"),
            allow_nonfinite=allow_nonfinite,
            dry_run=dry_run,
            progress=session.progress,
        )
        session.finish(result, render)


@app.command()
def package(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    artifact: PackageArtifacts = [],  # noqa: B006  # Typer copies its defaults
    verification: VerificationPath = None,
    evaluation: EvaluationPath = None,
    bench: BenchPath = None,
    reference: ReferencePath = None,
    layout: PackageLayout = "flat",
    archive: PackageArchive = "",
    allow_unverified: AllowUnverifiedArtifacts = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put verified artifacts into a folder, or one file, that a stranger can check and deploy."""
    from sshtool.cli.session import Session

    with Session("package", json=json, quiet=quiet, debug=debug) as session:
        _few({"--artifact": artifact})
        from sshtool.cli.package import render
        from sshtool.package.build import PackageOptions, package as verb

        options = PackageOptions(
            tuple(artifact),
            verification,
            evaluation,
            bench,
            reference,
            layout.lower(),
            archive.lower(),
            allow_unverified,
        )
        result = verb(_workspace(model, output_dir), options, dry_run=dry_run, progress=session.progress)
        session.finish(result, render)


@app.command()
def check(
    path: PackagePathArgument,
    signers: Signers = None,
    rebuild: RebuildFrom = None,
    memory_limit: MemoryLimit = None,
    time_limit: TimeLimit = 300.0,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check a package, offline: hashes, nothing extra or missing, and the models' answers. Exit code 3 if it is not
    what it says.
    """
    from sshtool.cli.session import Session

    with Session("check", json=json, quiet=quiet, debug=debug) as session:
        _confine(memory_limit, time_limit)
        from sshtool.cli.check import render
        from sshtool.package.check import check as verb

        result = verb(path, signers=signers, rebuild=rebuild, progress=session.progress)
        session.finish(result, render, passed=result.passed)


@app.command()
def detect(
    images: ImageArguments,
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    artifact: DetectArtifact = None,
    runtime: DetectRuntime = "",
    device: DetectDevice = "CPU",
    threads: DetectThreads = 0,
    inference_precision: InferencePrecision = "f32",
    threshold: Threshold = None,
    resize: ResizeMode = "letterbox",
    save_images: SaveImages = False,
    allow_nonfinite: AllowNonfinite = False,
    dry_run: DryRun = False,
    memory_limit: MemoryLimit = None,
    time_limit: TimeLimit = 300.0,
    quiet: Quiet = False,
    json: AsJsonLines = False,
    debug: Debug = False,
) -> None:
    """Find faces in images with a converted model. What cannot be read is reported, and the others are done."""
    from sshtool.cli.session import Session

    with Session("detect", json=json, quiet=quiet, debug=debug, lines=True) as session:
        _confine(memory_limit, time_limit)
        from sshtool.cli.detect import render
        from sshtool.detection import as_json, detect as verb
        from sshtool.detector import DetectorOptions
        from sshtool.images import Resize

        options = DetectorOptions(
            runtime=runtime,
            settings=_settings(device, threads, allow_nonfinite, inference_precision),
            threshold=threshold,
            resize=Resize(_choice("--resize", resize, [item.value for item in Resize])),
        )
        result = verb(
            _workspace(model, output_dir),
            images,
            options,
            artifact=artifact,
            save_images=save_images,
            dry_run=dry_run,
            report=lambda item: session.emit(as_json(item)),
            progress=session.progress,
        )
        if not json:
            session.finish(result, render)
        if result.not_read:
            raise typer.Exit(1)


@app.command(cls=_ManyValues)
def evaluate(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    dataset: DatasetPath = None,
    artifact: VerifyArtifacts = [],  # noqa: B006  # Typer copies its defaults
    protocol: ProtocolName = "omz",
    limit: Limit = 0,
    shard: Shard = "1/1",
    resume: Resume = False,
    merge: Merge = [],  # noqa: B006  # as above
    predictions: Predictions = None,
    save_predictions: SavePredictions = None,
    pyramid: Pyramid = False,
    resize: WiderResize = "",
    html: HtmlPath = None,
    runtime: DetectRuntime = "",
    device: DetectDevice = "CPU",
    threads: DetectThreads = 0,
    inference_precision: InferencePrecision = "f32",
    allow_nonfinite: AllowNonfinite = False,
    memory_limit: MemoryLimit = None,
    time_limit: TimeLimit = 300.0,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure average precision on WIDER FACE, by both published ways. Exit code 1 if an image could not be read."""
    from sshtool.cli.session import Session

    interrupted = "what was evaluated is kept, and --resume goes on from there"
    with Session("evaluate", json=json, quiet=quiet, debug=debug, interrupted=interrupted) as session:
        _few({"--artifact": artifact, "--merge": merge})
        _confine(memory_limit, time_limit)
        from sshconvert.libraries import PILLOW
        from sshtool.cli.evaluate import render
        from sshtool.evaluate.evaluation import EvaluateOptions, evaluate as verb
        from sshtool.images import Resize
        from sshtool.report.evaluation import write_evaluation
        from sshtool.report.page import check_page

        check_page(html, PILLOW)
        chosen = _choice("--protocol", protocol, ["omz", "wider", "both"])
        options = EvaluateOptions(
            dataset=dataset,
            artifacts=tuple(artifact),
            protocols=("omz", "wider") if chosen == "both" else (chosen,),
            limit=limit,
            shard=_shard(shard),
            resume=resume,
            merge=tuple(merge),
            predictions=predictions,
            save_predictions=save_predictions,
            pyramid=pyramid,
            resize=Resize(_choice("--resize", resize, [item.value for item in Resize])) if resize else None,
            runtime=runtime,
            settings=_settings(device, threads, allow_nonfinite, inference_precision),
        )

        result = verb(
            _workspace(model, output_dir), options, write=partial(write_evaluation, html), progress=session.progress
        )
        session.finish(result, render, passed=not result.not_evaluated, code=1)


@app.command()
def bench(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    artifact: VerifyArtifacts = [],  # noqa: B006  # Typer copies its defaults
    checkpoint: CheckpointPath = None,
    runtime: BenchRuntimes = [],  # noqa: B006  # as above
    inference_precision: BenchPrecisions = ["f32"],  # noqa: B006  # as above
    mode: BenchMode = "both",
    baseline: Baseline = "",
    duration: Duration = 0.0,
    runs: Runs = 0,
    rounds: Rounds = 5,
    requests: Requests = 0,
    threads: DetectThreads = 0,
    device: DetectDevice = "CPU",
    input_shape: FreeShape = "",
    batch: FreeBatch = 0,
    html: HtmlPath = None,
    allow_nonfinite: AllowNonfinite = False,
    memory_limit: MemoryLimit = None,
    time_limit: TimeLimit = 300.0,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure latency and throughput of every artifact on this machine, in turns, and compare them with a baseline."""
    from sshtool.cli.session import Session

    with Session("bench", json=json, quiet=quiet, debug=debug) as session:
        _few({"--artifact": artifact})
        _confine(memory_limit, time_limit)
        from sshtool.bench.benchmark import BenchOptions, bench as verb
        from sshtool.bench.measuring import MODES
        from sshtool.cli.bench import render
        from sshtool.report.bench import render_bench
        from sshtool.report.page import check_page, write_page
        from sshtool.runtimes.base import INFERENCE_PRECISIONS
        from sshtool.runtimes.registry import RUNTIMES

        check_page(html)
        chosen = _choice("--mode", mode, [*MODES, "both"])
        options = BenchOptions(
            artifacts=tuple(artifact),
            checkpoint=checkpoint,
            runtimes=tuple(_choices("--runtime", runtime, list(RUNTIMES))) if runtime else (),
            inference_precisions=tuple(
                _choices("--inference-precision", inference_precision, list(INFERENCE_PRECISIONS))
            ),
            modes=MODES if chosen == "both" else (chosen,),
            baseline=baseline,
            duration=duration,
            runs=runs,
            rounds=rounds,
            batch=batch,
            input_shape=_shape(input_shape),
            settings=replace(_settings(device, threads, allow_nonfinite, "f32"), requests=requests),
        )
        result = verb(_workspace(model, output_dir), options, progress=session.progress)
        session.finish(replace(result, written=write_page(html, lambda: render_bench(result))), render)


@app.command()
def demo_dataset(
    output_dir: OutputDir = Path("artifacts"),
    images: ImageCount = 24,
    seed: Seed = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw a dataset in WIDER FACE's layout, so that `evaluate` can be tried anywhere."""
    from sshtool.cli.session import Session

    with Session("demo-dataset", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.cli.demo_dataset import render
        from sshtool.demo.dataset import demo_dataset as verb

        result = verb(output_dir, images=images, seed=seed, dry_run=dry_run, progress=session.progress)
        session.finish(result, render)


def _options(
    precisions: list[str],
    formats: list[str],
    shape: Shape | None,
    *,
    preprocessing: bool,
    dynamic: str,
    layout: str,
    input_type: str,
    color: str,
    faces: Faces | None,
) -> Options:
    from sshconvert.errors import UsageError
    from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Precision

    if not preprocessing and color.casefold() not in ("", Color.RGB.value):
        raise UsageError("--input-color: the original takes rgb; leave out --no-preprocessing to feed bgr")
    return Options(
        formats=tuple(_choices("--format", formats, list(FORMATS))),
        precisions=tuple(
            Precision(name) for name in _choices("--precision", precisions, [item.value for item in Precision])
        ),
        input_shape=shape,
        preprocessing=preprocessing,
        dynamic=Dynamic(_choice("--dynamic", dynamic, [item.value for item in Dynamic])),
        layout=Layout(_choice("--input-layout", layout, [item.value for item in Layout])),
        input_type=InputType(_choice("--input-dtype", input_type, [item.value for item in InputType])),
        color=Color(_choice("--input-color", color or Color.BGR.value, [item.value for item in Color])),
        faces=faces,
    )


def _confine(gigabytes: float | None, seconds: float) -> None:
    """Run models, which strangers may have made, in a process of their own."""
    from sshtool.sandbox import GIGABYTE, Limits, confine, usual_memory

    confine(Limits(usual_memory() if gigabytes is None else int(gigabytes * GIGABYTE), seconds))


def _settings(device: str, threads: int, allow_nonfinite: bool, inference_precision: str) -> Settings:
    from sshtool.runtimes.base import INFERENCE_PRECISIONS, Settings

    limits.check_threads("--threads", threads)
    precision = _choice("--inference-precision", inference_precision, list(INFERENCE_PRECISIONS))
    return Settings(device, threads, allow_nonfinite, inference_precision=precision)


def _faces(
    postprocess: bool, score_threshold: float | None, iou_threshold: float | None, top_k: int, keep_heads: bool
) -> Faces | None:
    from sshconvert.errors import UsageError
    from sshconvert.options import Faces

    faces = Faces(score_threshold, iou_threshold, top_k, keep_heads)
    if not postprocess:
        if faces != Faces():
            raise UsageError("--score-threshold, --iou-threshold, --top-k and --keep-heads: they need --postprocess")
        return None
    for option, value in (("--score-threshold", score_threshold), ("--iou-threshold", iou_threshold)):
        if value is not None and not 0 < value <= 1:
            raise UsageError(f"{option}: {value:g} is not above 0 and at most 1")
    return faces


def _batched(shape: Shape | None, batch: int, model: str) -> Shape | None:
    """The shape with that many images; 0 leaves it as it is."""
    from sshconvert.errors import UsageError
    from sshconvert.models.registry import load_model

    if not batch:
        return shape
    if shape and shape[0] not in (1, batch):
        raise UsageError(f"--batch: {batch} contradicts --input-shape, which begins with {shape[0]}; give one")
    batched = (batch, *(shape or load_model(model).image_input.shape)[1:])
    limits.check_shape("--batch", batched)
    return batched


def _choices(option: str, given: list[str], known: list[str]) -> list[str]:
    from sshconvert.errors import UsageError

    names = {name.casefold(): name for name in known}
    items = [item.strip() for text in given for item in text.split(",") if item.strip()]
    unknown = [item for item in items if item.casefold() not in names]
    if unknown or not items:
        raise UsageError(f"{option}: {', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}")
    return list(dict.fromkeys(names[item.casefold()] for item in items))


def _choice(option: str, given: str, known: list[str]) -> str:
    from sshconvert.errors import UsageError

    chosen = _choices(option, [given], known)
    if len(chosen) > 1:
        raise UsageError(f"{option}: {given} is more than one; give one of {', '.join(known)}")
    return chosen[0]


def _shard(text: str) -> tuple[int, int]:
    from sshconvert.errors import UsageError
    from sshconvert.numerals import whole_number
    from sshconvert.schema import one_line

    try:
        which, count = map(whole_number, text.split("/"))
    except ValueError:
        which, count = 0, 0
    if not 0 < which <= count:
        raise UsageError(f"--shard: {one_line(text)!r} is not I/N with I from 1 to N; write for example 2/4")
    return which, count


def _shape(text: str) -> Shape | None:
    from sshconvert.errors import UsageError
    from sshconvert.numerals import whole_number
    from sshconvert.schema import one_line

    if not text:
        return None
    try:
        shape = tuple(whole_number(part.strip()) for part in text.strip("[]() ").replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or 0 in shape:
        raise UsageError(f"--input-shape: {one_line(text)!r} is not N,C,H,W; write for example 1,3,640,640")
    limits.check_shape("--input-shape", shape)
    return shape


def _few(given: Mapping[str, Sequence[object]]) -> None:
    for option, values in given.items():
        limits.check_number(option, values, limits.MOST_NAMED)


def _exclusive(given: dict[str, bool]) -> None:
    from sshconvert.errors import UsageError

    chosen = [option for option, present in given.items() if present]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} contradict each other; give one")


def _workspace(model: str, output_dir: Path) -> Workspace:
    from sshconvert.models.registry import load_model
    from sshtool.workspace import Workspace

    return Workspace(load_model(model), output_dir)
