"""libtpu says nothing where there is no TPU, unless it is asked."""

import pytest

from simswap_jax.hardware import libtpu


@pytest.fixture
def devices(tmp_path, monkeypatch):
    monkeypatch.setattr(libtpu, "find_spec", lambda name: "there")
    (tmp_path / "null").touch()
    return tmp_path


def test_it_is_silent_where_there_is_no_tpu(devices):
    environment = {"TPU_WORKER_HOSTNAMES": "mine"}
    libtpu.silence(environment, devices)
    assert environment == {
        "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "mine", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3", "TPU_LOG_DIR": "disabled",
    }  # fmt: skip


@pytest.mark.parametrize("device", ["accel0", "vfio/0"])
def test_a_tpu_is_left_as_it_is(devices, device):
    (devices / device).parent.mkdir(exist_ok=True)
    (devices / device).touch()
    environment = {}
    libtpu.silence(environment, devices)
    assert environment == {}


def test_nothing_changes_for_who_asks_for_messages_or_has_no_libtpu(devices, monkeypatch):
    environment = {"TPU_MIN_LOG_LEVEL": "0"}
    libtpu.silence(environment, devices)
    assert environment == {"TPU_MIN_LOG_LEVEL": "0"}
    monkeypatch.setattr(libtpu, "find_spec", lambda name: None)
    libtpu.silence(environment := {}, devices)
    assert environment == {}
