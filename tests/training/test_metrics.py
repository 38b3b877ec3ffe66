"""Numbers and sheets of a training reach TensorBoard without TensorFlow, and Weights & Biases."""

import io
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simswap_jax.io.images import encode_png
from simswap_jax.training import experiment
from simswap_jax.training.config import check, default_config
from simswap_jax.training.metrics import open_writers, read_lines
from tests.support.errors import raises_user_error

SHEET = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.fixture
def config():
    made = default_config()
    made.data.root = "somewhere"
    return made


def events(folder):
    """What TensorBoard would read: records of a length, a checksum, an Event and another checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs the extra `tensorboard`")
    for path in sorted(folder.iterdir()):
        file = io.BytesIO(path.read_bytes())
        while head := file.read(12):
            yield event_pb2.Event.FromString(file.read(struct.unpack("<Q", head[:8])[0]))
            file.read(4)


def test_tensorboard_gets_numbers_and_sheets(config, tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra `tensorboard`")
    (tmp_path / "sheet.png").write_bytes(encode_png(SHEET))
    writers = open_writers(config, tmp_path, 2)
    writers.write(3, {"identity": 0.25, "validation/score": float("nan")})
    writers.image(3, "samples", tmp_path / "sheet.png")
    writers.image(3, "samples", tmp_path / "not there.png")
    writers.close()
    found = list(events(tmp_path / "tensorboard"))
    values = {value.tag: (event.step, value) for event in found for value in event.summary.value}
    assert set(values) == {"identity", "samples"}  # what is not finite has no point
    assert (values["identity"][0], values["identity"][1].simple_value) == (3, 0.25)
    png = values["samples"][1].image.encoded_image_string
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), SHEET)
    assert [event.step for event in found if event.session_log.status == 1] == [3]  # what came after step 2 is hidden
    assert [row["step"] for row in read_lines(tmp_path)] == [3]


def test_tensorboard_is_left_out_where_it_is_missing_or_not_wanted(config, tmp_path, monkeypatch):
    config.log.tensorboard = False
    open_writers(config, tmp_path, 0).close()
    config.log.tensorboard = True
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    open_writers(config, tmp_path, 0).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl"]


class StandIn:
    """What the writer uses of wandb."""

    class Error(Exception):
        pass

    def __init__(self):
        self.started, self.logged, self.finished = [], [], 0
        self.Image = lambda path: ("image", path)

    def init(self, **known):
        self.started.append(known)
        if known["project"] == "refused":
            raise self.Error("no key\nsecond line")
        return SimpleNamespace(define_metric=lambda *words, **named: None, log=self.logged.append, finish=self.finish)

    def finish(self):
        self.finished += 1


def test_wandb_gets_numbers_sheets_and_fields_and_goes_on_with_its_run(config, tmp_path, monkeypatch):
    wandb = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config.log.tensorboard, config.log.wandb = False, "faces"
    (tmp_path / "sheet.png").write_bytes(encode_png(SHEET))
    for step in (0, 5):  # begun, and resumed
        writers = open_writers(config, tmp_path, step)
        writers.write(step + 1, {"identity": 0.5})
        writers.image(step + 1, "samples", tmp_path / "sheet.png")
        writers.close()
    first, second = wandb.started
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("faces", tmp_path.name, "allow")
    assert first["config"]["losses"]["identity"] == config.losses.identity
    assert wandb.logged[2:] == [
        {"step": 6, "identity": 0.5},
        {"step": 6, "samples": ("image", str(tmp_path / "sheet.png"))},
    ]
    assert wandb.finished == 2
    config.log.wandb = "refused"
    with raises_user_error("wandb-cannot-start", "no key"):
        open_writers(config, tmp_path, 0)


def test_wandb_without_its_extra_is_refused_before_anything_is_read(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config.log.wandb = "faces"
    with raises_user_error("extra-missing", "config.log.wandb"):
        check(config)


def test_where_numbers_go_may_change_when_a_workdir_is_resumed(config):
    stored = experiment.flat(config.to_dict())
    del stored["log.tensorboard"], stored["log.wandb"]  # of a former version
    config.log.wandb = "faces"
    assert list(experiment.differing(stored, config.to_dict(), default_config())) == []
