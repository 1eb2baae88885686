"""The command line: the one place that reads options, prints, catches and exits.

Everything heavy is imported by the verb that needs it, so that `sshtool --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from sshconvert.convert import Options
    from sshconvert.graph import Shape

app = typer.Typer(
    name="sshtool",
    help="Move the SSH face detector (ssh-mxnet) from MXNet to ONNX and OpenVINO, and see that it stayed the same.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Open Model Zoo's users type underscores.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)

ModelName = Annotated[str, typer.Option("--model", help="Which model.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", "-o", help="Where checkpoints and artifacts go.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
CheckpointPath = Annotated[
    Optional[Path],  # noqa: UP045  # Typer evaluates annotations, and 3.10's Annotated needs a plain Optional
    typer.Option("--checkpoint", help="A folder, a .params file or an archive; by default the downloaded one."),
]
Precisions = Annotated[list[str], typer.Option("--precision", help="FP32, FP16; several with commas, or repeated.")]
Formats = Annotated[list[str], typer.Option("--format", help="onnx, openvino; several with commas, or repeated.")]
InputShape = Annotated[
    str, typer.Option("--input-shape", help="N,C,H,W instead of the model's 1,3,640,640. Sizes need not divide by 32.")
]
NoPreprocessing = Annotated[
    bool, typer.Option("--no-preprocessing", help="Keep the original's input: RGB, minus the mean.")
]
Demo = Annotated[bool, typer.Option("--demo", help="Make the demo checkpoint: it finds drawn faces, not real ones.")]
FromArchive = Annotated[
    Optional[Path],  # noqa: UP045  # as above
    typer.Option("--from-archive", help="An archive that you have, such as ssh-model-final.zip."),
]
AllowUnverified = Annotated[
    bool, typer.Option("--allow-unverified", help="Take an archive that is not the one upstream published.")
]


@app.command()
def download(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    demo: Demo = False,
    from_archive: FromArchive = None,
    allow_unverified: AllowUnverified = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Get a checkpoint: make the demo, or unpack and verify an archive."""
    from sshtool.session import Session

    with Session("download", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.commands.download import download as verb, render

        _exclusive({"--demo": demo, "--from-archive": from_archive is not None})
        result = verb(
            model,
            output_dir,
            demo_checkpoint=demo,
            from_archive=from_archive,
            allow_unverified=allow_unverified,
            dry_run=dry_run,
            progress=session.progress,
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
    no_preprocessing: NoPreprocessing = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Convert a checkpoint to ONNX and OpenVINO IR."""
    from sshtool.session import Session

    with Session("convert", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.commands.convert import convert_checkpoint, render

        options = _options(precision, format, input_shape, no_preprocessing)
        result = convert_checkpoint(
            model, output_dir, options, checkpoint=checkpoint, dry_run=dry_run, progress=session.progress
        )
        session.finish(result, render)


@app.command()
def info(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    checkpoint: CheckpointPath = None,
    input_shape: InputShape = "",
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint is: operators, shapes, size and cost beside the published figures, licences."""
    from sshtool.session import Session

    with Session("info", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.commands.info import info as verb, render

        result = verb(model, output_dir, checkpoint=checkpoint, input_shape=_shape(input_shape))
        session.finish(result, render)


@app.command()
def run(
    model: ModelName = "ssh-mxnet",
    output_dir: OutputDir = Path("artifacts"),
    demo: Demo = False,
    from_archive: FromArchive = None,
    checkpoint: CheckpointPath = None,
    allow_unverified: AllowUnverified = False,
    precision: Precisions = ["FP32,FP16"],  # noqa: B006  # Typer copies its defaults
    format: Formats = ["onnx,openvino"],  # noqa: A002, B006  # the option's name; as above
    input_shape: InputShape = "",
    no_preprocessing: NoPreprocessing = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do it all: get the checkpoint, convert it, and compare every format with MXNet on a drawn scene."""
    from sshtool.session import Session

    with Session("run", json=json, quiet=quiet, debug=debug) as session:
        from sshtool.commands.run import render, run as verb

        _exclusive({"--demo": demo, "--from-archive": from_archive is not None, "--checkpoint": checkpoint is not None})
        options = _options(precision, format, input_shape, no_preprocessing)
        result = verb(
            model,
            output_dir,
            options,
            demo_checkpoint=demo,
            from_archive=from_archive,
            checkpoint=checkpoint,
            allow_unverified=allow_unverified,
            dry_run=dry_run,
            progress=session.progress,
        )
        session.finish(result, render, passed=result.passed)


def _options(precisions: list[str], formats: list[str], input_shape: str, no_preprocessing: bool) -> Options:
    from sshconvert.convert import Format, Options, Precision

    return Options(
        formats=tuple(Format(name) for name in _choices("--format", formats, [item.value for item in Format])),
        precisions=tuple(
            Precision(name) for name in _choices("--precision", precisions, [item.value for item in Precision])
        ),
        input_shape=_shape(input_shape),
        preprocessing=not no_preprocessing,
    )


def _choices(option: str, given: list[str], known: list[str]) -> list[str]:
    from sshconvert.errors import UsageError

    names = {name.casefold(): name for name in known}
    items = [item.strip() for text in given for item in text.split(",") if item.strip()]
    unknown = [item for item in items if item.casefold() not in names]
    if unknown or not items:
        raise UsageError(f"{option}: {', '.join(unknown) or 'nothing'} is not one of {', '.join(known)}")
    return list(dict.fromkeys(names[item.casefold()] for item in items))


def _shape(text: str) -> Shape | None:
    from sshconvert.errors import UsageError

    if not text:
        return None
    parts = text.strip("[]() ").replace("x", ",").split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--input-shape: {text!r} is not N,C,H,W; write for example 1,3,640,640")
    return tuple(int(part) for part in parts)


def _exclusive(given: dict[str, bool]) -> None:
    from sshconvert.errors import UsageError

    chosen = [option for option, present in given.items() if present]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} contradict each other; give one")
