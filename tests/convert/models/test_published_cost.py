"""The cost on the model cards of Open Model Zoo, reproduced from the networks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sshconvert.cost import Cost, folded_cost, original_cost
from sshconvert.cutting import cut
from sshconvert.models.registry import load_model, model_names
from sshconvert.models.spec import ModelSpec
from sshconvert.network import Network, read_symbol, resolve

# The symbol of each model in the zoo.
SYMBOLS: Final = {
    "face-recognition-mobilefacenet-arcface": "mobilefacenet-y1",
    "face-recognition-resnet100-arcface": "arcface-r100-ii",
    "mobilefacedet-v1-mxnet": "mobilefacedet-v1-mxnet",
    "octave-densenet-121-0.125": "octave-densenet-121-0.125",
    "octave-resnet-101-0.125": "octave-resnet-101-0.125",
    "octave-resnet-26-0.25": "octave-resnet-26-0.25",
    "octave-resnet-50-0.125": "octave-resnet-50-0.125",
    "octave-resnext-50-0.25": "octave-resnext-50-0.25",
    "retinaface-resnet50": "retinaface-r50",
    "ssh-mxnet": "ssh-sshb-upstream",
}
ABSENT: Final = {  # the cards without a symbol in the zoo
    "brain-tumor-segmentation-0001",
    "face-recognition-resnet34-arcface",
    "face-recognition-resnet50-arcface",
    "octave-resnet-200-0.125",
    "octave-resnext-101-0.25",
    "octave-se-resnet-50-0.125",
    "retinaface-anti-cov",
}

FOUR_DIGITS: Final = {"mobilefacedet-v1-mxnet", "retinaface-resnet50", "ssh-mxnet"}  # the others have three

pytestmark = pytest.mark.independent


def network_of(name: str, zoo: Path) -> tuple[ModelSpec, Network]:
    model = load_model(name)
    graph = cut(read_symbol(zoo / f"{SYMBOLS[name]}.json"), model.tensors)
    return model, resolve(graph, model.input_shapes)


def published_cost(name: str, zoo: Path) -> tuple[ModelSpec, Cost]:
    model, network = network_of(name, zoo)
    count = folded_cost if model.published.rule == "folded" else original_cost
    return model, count(network, model, model.input_shapes)


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_cards_cost_is_reproduced_to_the_last_digit(name: str, shared_data: Path) -> None:
    model, cost = published_cost(name, shared_data / "zoo" / "symbols")
    assert model.published.gflops
    assert model.published.mparams
    digits = 4 if name in FOUR_DIGITS else 3
    assert round(cost.flops / 1e9, digits) == model.published.gflops
    assert round(cost.parameters / 1e6, digits) == model.published.mparams


@pytest.mark.parametrize("name", ["face-recognition-mobilefacenet-arcface", "octave-resnet-26-0.25"])
def test_the_rule_of_the_original_network_gives_other_figures(name: str, shared_data: Path) -> None:
    model, network = network_of(name, shared_data / "zoo" / "symbols")
    folded, original = (count(network, model, model.input_shapes) for count in (folded_cost, original_cost))
    assert folded.parameters < original.parameters
    assert abs(folded.flops - original.flops) > 1e6


def test_every_published_cost_is_reproduced_or_its_symbol_is_absent() -> None:
    published = {name for name in model_names() if load_model(name).published.gflops}
    assert published == SYMBOLS.keys() | ABSENT
