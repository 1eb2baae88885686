"""Detection and evaluation on real Dask clusters, whose workers and scheduler end in the middle."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from dask_processes import VERSION, Cluster, LocalCluster, Processes, free_port, until, variables
from environments import SCRIPTS
from guides import BLOCKS, TOOLS
from sshtool.demo.scenes import draw_scene

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

IMAGES: Final = 240
FORMATS: Final = ("jsonl", "csv", "coco", "yolo", "wider")
SAVED: Final = ("--save-results", ",".join(FORMATS))
SECONDS: Final = 240.0

# The program, with less patience.
HASTY: Final = """
from sshtool.cluster import client
client.{name} = {value}
from sshtool.main import main
main()
"""

# A worker's preload that ends the process at one image, as an image does that makes a library crash.
POISON: Final = """
from sshtool import detection
def poisoned(path):
    import os
    from sshtool.images import reading
    if path.name == "000100.png":
        os._exit(1)
    return reading(path)
detection.reading = poisoned
"""
SLOW: Final = """
from sshtool import detection
def slow(path):
    import time
    from sshtool.images import reading
    time.sleep(0.3)
    return reading(path)
detection.reading = slow
"""
OTHER_VERSION: Final = "from sshtool.cluster import worker\nworker.__version__ = '0.0.1'\n"
OTHER_RUNTIME: Final = """
from sshtool.runtimes.sandboxed import SandboxedRuntime
SandboxedRuntime.__str__ = lambda _: "ONNX Runtime 0.0"
"""


@pytest.fixture(scope="module")
def dask(environment: Callable[..., Path]) -> Path:
    return environment("cluster", VERSION)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, dask: Path) -> Path:
    """A folder with a small artifact, small images of which two are damaged, and what one process finds in them."""
    folder = tmp_path_factory.mktemp("cluster")
    program(dask, folder, "download", "--demo")
    program(dask, folder, "convert", "--input-shape", "1,3,64,64", "--precision", "FP32")
    scenes = [draw_scene(seed, 96, 96).image for seed in range(12)]
    (folder / "photos").mkdir()
    for number in range(IMAGES):
        pixels = np.roll(scenes[number % 12], number, axis=1)
        Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(folder / "photos" / f"{number:06}.png")
    (folder / "photos" / "000050.png").write_bytes(b"no picture")
    (folder / "photos" / "000051.png").write_bytes((folder / "photos" / "000052.png").read_bytes()[:900])
    program(dask, folder, "detect", "photos", *SAVED, code=1)
    shutil.move(saved(folder), folder / "expected")
    return folder


@pytest.fixture
def own(work: Path, tmp_path: Path) -> Path:
    """A folder like `work` for the results of one test."""
    shutil.copytree(work / "artifacts", tmp_path / "artifacts")
    (tmp_path / "photos").symlink_to(work / "photos")
    return tmp_path


@pytest.fixture(scope="module")
def cluster(dask: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(dask, tmp_path_factory.mktemp("local")) as running:
        yield running


def saved(folder: Path) -> Path:
    return folder / "artifacts" / "ssh-mxnet" / "detections"


def journal(folder: Path) -> Path:
    return saved(folder) / "detections.journal"


def lines(folder: Path) -> int:
    return journal(folder).read_bytes().count(b"\n") if journal(folder).exists() else 0


def begin(
    dask: Path,
    folder: Path,
    *arguments: object,
    code: str = "",
    more: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[str]:
    start = ("-c", code) if code else ("-m", "sshtool")
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        cwd=folder,
        env=variables(dask, **(more or {})),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """Everything that the program prints."""
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == code, (stdout[-3000:], stderr[-3000:])
    assert "Traceback" not in stderr
    return stdout + stderr


def program(dask: Path, folder: Path, *arguments: object, code: int = 0, more: Mapping[str, str] | None = None) -> str:
    return ended(begin(dask, folder, *arguments, more=more), code)


def check_saved(work: Path, folder: Path) -> None:
    """Every file of results has the bytes that one process writes."""
    expected = {path.relative_to(work / "expected"): path for path in (work / "expected").rglob("*") if path.is_file()}
    assert {path.parts[0] for path in expected} >= {"detections.jsonl", "detections.csv", "coco.json", "yolo", "wider"}
    for name, path in expected.items():
        assert (saved(folder) / name).read_bytes() == path.read_bytes(), name
    assert lines(folder) == IMAGES + 1


def test_a_cluster_detects_the_same_as_one_process_in_the_same_order(
    work: Path, own: Path, dask: Path, cluster: LocalCluster
) -> None:
    text = program(dask, own, "detect", "photos", *SAVED, "--scheduler", cluster.address, code=1)
    check_saved(work, own)
    assert f"{IMAGES} images" in text
    assert "2 not read" in text
    assert "000050.png" in text
    assert "2 workers" in text
    # On one machine, the journal is the same too.
    before = journal(own).read_bytes()
    program(dask, own, "detect", "photos", *SAVED, "--resume", code=1)
    check_saved(work, own)
    program(dask, own, "detect", "photos", "--resume", "--output-dir", own / "artifacts", code=1)
    assert journal(own).read_bytes() == before


def test_json_lines_of_a_cluster_are_those_of_one_process(own: Path, dask: Path, cluster: LocalCluster) -> None:
    arguments = ("detect", "photos/00000*.png", "--json", "--quiet")
    assert program(dask, own, *arguments, "--scheduler", cluster.address) == program(dask, own, *arguments)


def test_workers_that_are_killed_or_stand_still_lose_no_image(work: Path, own: Path, dask: Path) -> None:
    with LocalCluster(dask, own, workers=3) as cluster:
        code = HASTY.format(name="_STRAGGLING_SECONDS", value=1.0)
        arguments = ("detect", "photos", *SAVED, "--scheduler", cluster.address)
        process = begin(dask, own, *arguments, code=code)
        until(lambda: lines(own) > 4, "the first outcomes")
        cluster.signal("SIGKILL", 0)
        cluster.signal("SIGSTOP", 1)
        until(lambda: lines(own) > IMAGES // 2, "the middle")
        cluster.signal("SIGKILL", 2)
        text = ended(process, 1)
        cluster.signal("SIGCONT", 1)
    check_saved(work, own)
    assert " 0 of them computed again" not in text


def test_a_slow_worker_delays_no_other(work: Path, own: Path, dask: Path) -> None:
    (own / "slow.py").write_text(SLOW)
    with Cluster(dask, own) as cluster:
        cluster.scheduler()
        cluster.worker()
        cluster.worker("slow", more={"DASK_DISTRIBUTED__WORKER__PRELOAD": str(own / "slow.py")})
        text = program(dask, own, "detect", "photos", *SAVED, "--scheduler", cluster.address, code=1)
    check_saved(work, own)
    assert "2 workers" in text


def test_an_image_that_ends_its_workers_is_reported_and_the_others_are_not_lost(
    work: Path, own: Path, dask: Path
) -> None:
    (own / "poison.py").write_text(POISON)
    more = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(own / "poison.py"),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    }
    with LocalCluster(dask, own, 1, more=more) as cluster:
        arguments = ("detect", "photos", "--save-results", "jsonl", "--scheduler", cluster.address)
        text = program(dask, own, *arguments, code=1)
    assert "photos/000100.png: it ended each worker that tried it" in text
    assert "3 not read" in text
    expected = (work / "expected" / "detections.jsonl").read_text().splitlines()
    expected = [line for line in expected if "000100.png" not in line]
    assert (saved(own) / "detections.jsonl").read_text().splitlines() == expected


def test_a_scheduler_that_is_restarted_goes_on_with_the_run(work: Path, own: Path, dask: Path) -> None:
    with Cluster(dask, own) as cluster:
        scheduler, worker = cluster.scheduler(), cluster.worker()
        process = begin(dask, own, "detect", "photos", *SAVED, "--scheduler", cluster.address)
        until(lambda: lines(own) > 10, "the first outcomes")
        scheduler.kill()
        worker.kill()
        worker.wait()
        scheduler.wait()
        before = lines(own)
        assert before < IMAGES
        cluster.scheduler()
        cluster.worker()
        text = ended(process, 1)
    check_saved(work, own)
    assert "1 restarts of the scheduler" in text


def test_a_full_disk_of_the_client_is_an_error_and_the_run_goes_on_later(
    work: Path, own: Path, dask: Path, cluster: LocalCluster
) -> None:
    import resource

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    arguments = ("detect", "photos", "--save-results", "jsonl", "--scheduler", cluster.address)
    text = ended(begin(dask, own, *arguments, preexec_fn=small_disk), 1)
    assert "detections.journal: cannot be written (File too large); free space or use another --output-dir" in text
    assert 1 < lines(own) < IMAGES
    assert not (saved(own) / "detections.jsonl").exists()
    text = program(dask, own, *arguments[:4], *SAVED, *arguments[4:], "--resume", code=1)
    assert "from an earlier run" in text
    check_saved(work, own)


def test_a_full_disk_of_a_worker_is_an_error_that_names_it(own: Path, dask: Path) -> None:
    with Cluster(dask, own) as cluster:
        cluster.scheduler()
        cluster.worker(most_bytes=1 << 20)
        text = program(dask, own, "detect", "photos", "--scheduler", cluster.scheduler_file(), code=1)
    assert "worker tcp://127.0.0.1:" in text
    assert "cannot keep the model (File too large); free space in its folder" in text
    assert lines(own) == 1


def test_an_interrupted_client_goes_on_with_the_same_options_and_images_only(
    work: Path, own: Path, dask: Path, cluster: LocalCluster
) -> None:
    arguments = ("detect", "photos", *SAVED, "--scheduler", cluster.address)
    process = begin(dask, own, *arguments)
    until(lambda: lines(own) > 10, "the first outcomes")
    process.send_signal(signal.SIGTERM)
    assert "the outcomes so far are kept; continue with --resume" in ended(process, 128 + signal.SIGTERM)
    kept = lines(own)
    assert kept < IMAGES
    with journal(own).open("ab") as file:
        file.write(b'{"sha256":"torn')
    text = program(dask, own, *arguments, "--resume", "--threshold", "0.6", code=1)
    assert "detections.journal: is of another run: its options is" in text
    text = program(dask, own, "detect", "photos/0000*.png", *arguments[2:], "--resume", code=1)
    assert "is of another run: its images is" in text
    text = program(dask, own, *arguments, "--resume", code=1)
    assert f"{kept - 1} from an earlier run" in text
    check_saved(work, own)
    damaged = journal(own).read_bytes().replace(b"photos/000020", b"photos/000021")
    journal(own).write_bytes(damaged)
    assert "line 22: has a wrong digest" in program(dask, own, *arguments, "--resume", code=1)


@pytest.mark.parametrize(
    ("preload", "message"),
    [
        (OTHER_VERSION, "has sshtool 0.0.1, and the client"),
        (OTHER_RUNTIME, "computes with ONNX Runtime 0.0, and this machine with ONNX Runtime 1."),
    ],
    ids=["sshtool", "runtime"],
)
def test_a_worker_with_other_versions_is_refused(own: Path, dask: Path, preload: str, message: str) -> None:
    (own / "preload.py").write_text(preload)
    with LocalCluster(dask, own, 1, more={"DASK_DISTRIBUTED__WORKER__PRELOAD": str(own / "preload.py")}) as cluster:
        text = program(dask, own, "detect", "photos", "--scheduler", cluster.address, code=1)
    assert message in text
    assert "install the same on all" in text


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9: no scheduler of Dask answers ("),
        ("nonsense://here", "nonsense://here: Dask cannot connect ("),
        ("model.toml", "model.toml: Dask cannot connect ("),
    ],
)
def test_a_cluster_that_is_not_there_is_an_error(own: Path, dask: Path, address: str, message: str) -> None:
    (own / "model.toml").write_text("name = 'no cluster'\n")
    code = HASTY.format(name="START", value=1.0)
    text = ended(begin(dask, own, "detect", "photos", "--scheduler", address, code=code), 1)
    assert message in text.replace("\n", " ")


def test_a_cluster_without_workers_is_an_error(own: Path, dask: Path) -> None:
    with Cluster(dask, own) as cluster:
        cluster.scheduler()
        code = HASTY.format(name="PATIENCE", value=3.0)
        text = ended(begin(dask, own, "detect", "photos", "--scheduler", cluster.address, code=code), 1)
    assert f"{cluster.address}: waiting for workers" in text
    assert f"has no worker; start some with `dask worker {cluster.address}`" in text


def test_the_figures_of_a_cluster_are_those_of_one_process_to_the_last_digit(
    own: Path, dask: Path, cluster: LocalCluster
) -> None:
    program(dask, own, "demo-dataset", "--images", "12")
    folder, journals = "artifacts/datasets/wider-demo", own / "artifacts" / "ssh-mxnet" / "evaluation"
    artifacts = [f"--artifact=artifacts/ssh-mxnet/FP32/ssh-mxnet.{suffix}" for suffix in ("onnx", "xml")]
    protocols = ("--protocol", "both", "--resize", "letterbox")
    arguments = ("evaluate", "--dataset", folder, *protocols, *artifacts, "--json", "--quiet")
    single = json.loads(program(dask, own, *arguments, "--save-predictions", "single"))
    kept = {path.name: path.read_bytes() for path in journals.iterdir()}
    (images,) = (own / folder).glob("*/images")
    shutil.move(images, own / "elsewhere")
    place = ("--images", (own / "elsewhere").as_uri(), "--save-predictions", "many")
    many = json.loads(program(dask, own, *arguments, *place, "--scheduler", cluster.address))
    for document in (single, many):
        for artifact in document["result"]["artifacts"]:
            assert artifact.pop("images_per_second") > 0
    assert many == single
    assert {path.name: path.read_bytes() for path in journals.iterdir()} == kept
    assert len(kept) == 2
    for path in journals.iterdir():  # as a client leaves them that is killed
        path.write_bytes(path.read_bytes()[:-30])
    resumed = json.loads(program(dask, own, *arguments, *place, "--scheduler", cluster.address, "--resume"))
    for artifact in resumed["result"]["artifacts"]:
        artifact.pop("images_per_second")
    assert resumed == single
    assert {path.name: path.read_bytes() for path in journals.iterdir()} == kept
    single_files = {path.relative_to(own / "single"): path.read_bytes() for path in (own / "single").rglob("*.txt")}
    many_files = {path.relative_to(own / "many"): path.read_bytes() for path in (own / "many").rglob("*.txt")}
    assert single_files == many_files
    assert len(single_files) == 2 * 2 * 12


@pytest.fixture(scope="module")
def store(work: Path, dask: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which programs reach a service with the interface of S3 that has the photos."""
    port, folder = free_port(), tmp_path_factory.mktemp("store")
    more = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with Processes(dask, folder) as running:
        running.start("-m", "moto.server", "-H", "127.0.0.1", "-p", port, log="store.log")

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        until(answers, "an answer of the store")
        few = folder / "few"
        few.mkdir()
        for number in (0, 1, 50, 60, 61, 62):
            shutil.copy(work / "photos" / f"{number:06}.png", few)
        (few / "000063.png").touch()
        filled = running.start(SCRIPTS / "fill_store.py", few, "archive/2019/few", log="filled.log", more=more)
        assert filled.wait(60) == 0, (folder / "filled.log").read_text()
        yield more


def test_images_of_an_object_store_give_the_detections_of_files(
    work: Path, own: Path, dask: Path, store: dict[str, str]
) -> None:
    expected = [json.loads(line) for line in (work / "expected" / "detections.jsonl").read_text().splitlines()]
    boxes = {Path(line["image"]).name: line["detections"] for line in expected}
    names = [f"{number:06}.png" for number in (0, 1, 50, 60, 61, 62, 63)]
    boxes.pop("000063.png")  # it is empty in the store
    url = "s3://archive/2019/few"
    arguments = ("detect", url, "--json", "--quiet")
    output = program(dask, own, *arguments, code=1, more=store)
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["image"] for line in lines] == [f"{url}/{name}" for name in names]
    assert [line.get("detections") for line in lines] == [boxes.get(name) for name in names]
    assert f"{url}/000050.png: is not an image" in lines[2]["error"]["message"]
    with LocalCluster(dask, own, 1, more=store) as cluster:
        assert program(dask, own, *arguments, "--scheduler", cluster.address, code=1, more=store) == output
    assert lines[6]["error"]["message"].startswith(f"{url}/000063.png: ")
    some = program(dask, own, "detect", f"{url}/00006*.png", "--json", "--quiet", code=1, more=store)
    assert some.splitlines() == output.splitlines()[3:]
    one = program(dask, own, "detect", (own / "photos" / "000060.png").as_uri(), "--json", "--quiet")
    assert json.loads(one)["detections"] == boxes["000060.png"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://archive/2020", "s3://archive/2020: holds no image; name a file, a folder of images, or a pattern"),
        ("s3://nowhere/a.png", "s3://nowhere/a.png: holds no image"),
        ("s3://archive/2019/few/*.tif", "s3://archive/2019/few/*.tif: holds no image"),
        ("s3://", "s3://: holds no image"),
    ],
)
def test_a_place_of_a_store_without_images_is_an_error(
    own: Path, dask: Path, store: dict[str, str], url: str, message: str
) -> None:
    text = program(dask, own, "detect", url, code=2, more=store)
    assert message in text


def test_a_store_that_does_not_answer_is_an_error(own: Path, dask: Path) -> None:
    more = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    text = program(dask, own, "detect", "s3://archive/2019", code=2, more={**more, "AWS_MAX_ATTEMPTS": "1"})
    assert "s3://archive/2019: cannot be looked up (" in text
    assert "check the address and the permissions" in text


@pytest.mark.parametrize("model", ["face-recognition-mobilefacenet-arcface", "octave-resnet-26-0.25"])
def test_embedders_and_classifiers_have_the_figures_of_one_process(
    tmp_path: Path, dask: Path, cluster: LocalCluster, model: str
) -> None:
    which = ("--model", model)
    program(dask, tmp_path, "download", *which, "--demo")
    program(dask, tmp_path, "convert", *which, "--format", "onnx", "--precision", "FP32")
    program(dask, tmp_path, "demo-dataset", *which, "--images", "40")
    (dataset,) = (tmp_path / "artifacts" / "datasets").iterdir()
    arguments = ("evaluate", *which, "--dataset", dataset.relative_to(tmp_path), "--json", "--quiet")
    documents = [
        json.loads(program(dask, tmp_path, *arguments, *more)) for more in ((), ("--scheduler", cluster.address))
    ]
    for document in documents:
        assert document["result"]["artifacts"][0].pop("images_per_second") > 0
    assert documents[0] == documents[1]


def test_the_commands_of_the_guide_use_a_cluster(work: Path, own: Path, dask: Path) -> None:
    program(dask, own, "demo-dataset", "--images", "3")
    shutil.move(own / "artifacts" / "datasets" / "wider-demo", own / "WIDER")
    lines = BLOCKS[f"{TOOLS}#many-images"].text.splitlines()
    places = {"head": "127.0.0.1", "8786": str(free_port()), "/archive": str(own), "4": "1", "8": "1"}
    commands = [re.sub(r"/archive|\b(head|8786|4|8)\b", lambda name: places[name[0]], line).split() for line in lines]
    assert commands[0] == ["pip", "install", "-e", "'.[run,cluster]'"]
    with Processes(dask, own) as running:
        for words in commands[1:]:
            if words[0] == "dask":
                running.start("-m", *words, log=f"{words[1]}.log")
            else:
                code = 1 if words[1] == "detect" else 0  # two images are damaged
                program(dask, own, *words[1:], code=code)
    expected = work / "expected"
    for name in ("detections.jsonl", "detections.csv"):
        text = (saved(own) / name).read_text()
        assert text.replace(f"{own}/", "") == (expected / name).read_text()
    assert [words[0] for words in commands[1:]].count("sshtool") == 3
