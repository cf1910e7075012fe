"""Which devices there are said to be, whether torch can use them, and who has a place on them."""

import os

import pytest

from reidlib.runs import devices
from reidlib.runs.devices import Device
from reidlib.spec import ReidError

GPU = Device("GPU-a", "a GPU", 80_000.0)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """An nvidia-smi of these words, or none at all; leases of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def write(*lines):
        (folder / "nvidia-smi").write_text("\n".join(("#!/bin/sh", *lines)))
        (folder / "nvidia-smi").chmod(0o755)

    return write


@pytest.mark.parametrize(
    "given, found", [("-1", "cpu"), ("NoDevFiles", "cpu"), ("0", "cpu"), ("GPU-12", "GPU-12"), ("MIG-3", "MIG-3")]
)
def test_words_that_name_no_gpu_make_none(tool, monkeypatch, given, found):
    monkeypatch.setenv(devices.VISIBLE, given)
    assert [device.id for device in devices.devices()] == [found]


def test_a_tool_that_fails_is_named_with_the_way_round(tool, monkeypatch):
    tool("echo 'Failed to initialize NVML: Driver/library version mismatch'", "exit 18")
    with pytest.raises(ReidError, match=r"nvidia-smi fails .*version mismatch.*CUDA_VISIBLE_DEVICES= .empty."):
        devices.devices()
    monkeypatch.setenv(devices.VISIBLE, "")
    assert [device.id for device in devices.devices()] == ["cpu"]


def test_a_driver_without_gpus_is_no_fault(tool):
    tool("echo 'No devices were found'", "exit 6")
    assert [device.id for device in devices.devices()] == ["cpu"]


def test_a_gpu_that_torch_cannot_use_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def too_old():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).\nUpdate it.")

    monkeypatch.setattr("torch.cuda.init", too_old)
    with pytest.raises(ReidError, match=r"a GPU \(GPU-a\): torch .* too old .*CUDA_VISIBLE_DEVICES= ") as caught:
        devices.demand_usable(GPU)
    assert "\n" not in str(caught.value)
    devices.demand_usable(Device("cpu", "a processor", 0.0))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    devices.demand_usable(GPU)


def test_a_name_with_a_slash_can_be_leased(tool, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "")
    slice_of = Device("MIG-GPU-1234/1/0", "a slice", 0.0)
    with devices.lease([slice_of], log=lambda text: None):
        assert os.environ[devices.VISIBLE] == slice_of.id
        with devices.alone(slice_of) as alone:
            assert not alone


def test_alone_on_a_device(tool, monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "")
    with devices.alone(GPU) as alone:
        assert alone
        assert not devices._locked(devices._place(GPU, 0)), "no run begins beside a measurement"
    with devices.lease([GPU], 3, log=lambda text: None):
        with devices.alone(GPU) as alone:
            assert not alone
            with devices.lease([GPU], 2, log=lambda text: None):
                pass  # the places that are free stay free to others
        with devices.alone(Device("GPU-b", "another", 0.0)) as alone:
            assert alone
