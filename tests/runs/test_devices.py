"""Which devices a machine has, whether torch can use them, and the places on them."""

import pytest

from reidlib.runs import devices
from reidlib.runs.devices import Device
from reidlib.spec import ReidError

GPU = Device("GPU-a", "a GPU", 80_000.0)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """An nvidia-smi of these words, or none at all."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(devices.VISIBLE, raising=False)

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
        devices.check_usable(GPU)
    assert "\n" not in str(caught.value)
    devices.check_usable(Device("cpu", "a processor", 0.0))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    devices.check_usable(GPU)


@pytest.fixture
def two_gpus(tool):
    tool("echo 'GPU-aaaa, NVIDIA H100, 81559'", "echo 'GPU-bbbb, NVIDIA H100, [N/A]'")


def test_devices_are_those_asked_for_and_given(two_gpus, monkeypatch):
    assert [(device.id, device.memory_mb) for device in devices.devices()] == [("GPU-aaaa", 81559.0), ("GPU-bbbb", 0.0)]
    assert [device.id for device in devices.devices("1,1")] == ["GPU-bbbb"]
    monkeypatch.setenv(devices.VISIBLE, "1")
    assert [device.id for device in devices.devices()] == ["GPU-bbbb"]
    monkeypatch.setenv(devices.VISIBLE, "MIG-1234")
    assert [device.id for device in devices.devices()] == ["MIG-1234"]
    monkeypatch.setenv(devices.VISIBLE, "")
    assert [device.id for device in devices.devices()] == ["cpu"]
    with pytest.raises(ReidError, match="no GPU '2' on this machine, which has 0 .NVIDIA H100., 1"):
        devices.devices("0,2")


def test_places_share_the_cores(two_gpus, monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 16)
    found = devices.places(per_gpu=2)
    assert [place.device.id for place in found] == ["GPU-aaaa", "GPU-bbbb"] * 2
    assert {(place.threads, place.sharing) for place in found} == {(4, 2)}
    assert {place.threads for place in devices.places("0", threads=3)} == {3}
    monkeypatch.setenv(devices.VISIBLE, "")
    assert [place.threads for place in devices.places()] == [1] * 16
    assert [place.threads for place in devices.places(threads=6)] == [6] * 2
    assert [place.threads for place in devices.places(threads=40)] == [40]
