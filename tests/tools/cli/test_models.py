"""`sshtool models`: the list of the models that ship."""

from __future__ import annotations

import json
from typing import Any

import pytest

from command_line import sshtool
from sshconvert.models.registry import model_names
from sshtool.catalogue import list_models

pytestmark = pytest.mark.independent


def test_the_list_has_every_model_with_its_facts() -> None:
    listed: list[dict[str, Any]] = json.loads(sshtool("models", "--json").stdout)["result"]["models"]
    assert [model["name"] for model in listed] == list(model_names())
    octave = next(model for model in listed if model["name"] == "octave-resnet-101-0.125")
    assert octave["task"] == "classification"
    assert octave["inputs"] == {"data": [1, 3, 224, 224]}
    assert (octave["gflops"], octave["mparams"]) == (13.387, 44.543)
    assert octave["accuracy"] == {"ImageNet top-1": 79.182, "ImageNet top-5": 94.42}
    assert (octave["sources"], octave["dead_since"]) == (1, "")


def test_the_table_has_a_row_for_every_model_with_figures_as_published() -> None:
    rows = sshtool("models").stdout.splitlines()
    assert len(rows) == 1 + len(model_names())
    assert "100.8478" in next(row for row in rows if row.startswith("retinaface-resnet50"))
    assert "dead since May 2021" in next(row for row in rows if row.startswith("ssh-mxnet"))


def test_the_dead_sources_are_those_of_may_2021_and_nothing_is_verified_without_its_weights() -> None:
    models = list_models().models
    dead = {model.name for model in models if model.dead_since}
    assert dead == {
        "ssh-mxnet",
        "retinaface-resnet50",
        "retinaface-anti-cov",
        *(f"face-recognition-{net}-arcface" for net in ("mobilefacenet", "resnet34", "resnet50", "resnet100")),
    }
    assert all(model.verified for model in models)
    trained = {model.name for model in models if model.verified.startswith("the trained weights")}
    assert trained == {"retinaface-mnet25", "mtcnn-det1", "mtcnn-det3", "mtcnn-det4"}
