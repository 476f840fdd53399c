"""Device options, and the scope that puts them in force."""

import asyncio
import threading

import pytest

from procession import Net
from procession.errors import DeviceError
from procession.graph import proto
from procession.graph.device import (
    CurrentDeviceScope,
    DeviceOption,
    DeviceScope,
    DeviceType,
    EmptyDeviceScope,
    InferBlobDevices,
    InferOpBlobDevicesAsDict,
    InferOpDeviceAsBlobDevices,
    InjectCrossDeviceCopies,
    InjectDeviceCopiesAmongNets,
    InjectDeviceCopiesAmongNetsWithoutB2D,
    IsGPUDeviceType,
    check_device,
    device_option_equal,
)

CPU, CUDA, HIP = DeviceType.CPU, DeviceType.CUDA, DeviceType.HIP


def test_what_an_option_says():
    option = DeviceOption(0)
    assert (option.device_type, option.device_id) == (0, 0)
    assert not any(option.HasField(name) for name in ("random_seed", "node_name", "numa_node_id"))
    option = DeviceOption(CPU, 2, 7, "n1", 1, ["b:1", "a:2"])
    assert (option.device_id, option.random_seed, option.node_name) == (2, 7, "n1")
    assert (option.numa_node_id, list(option.extra_info)) == (1, ["b:1", "a:2"])
    assert DeviceOption(CUDA, 1).device_type == 1
    with pytest.raises(DeviceError, match="numa_node_id=0 is for CPUs, not for CUDA"):
        DeviceOption(CUDA, numa_node_id=0)
    with pytest.raises(TypeError):
        DeviceOption("CPU")


def test_kinds_of_gpus():
    assert [kind for kind in DeviceType if IsGPUDeviceType(kind)] == [CUDA, HIP]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (DeviceOption(CPU), DeviceOption(CPU), True),
        (DeviceOption(CPU), DeviceOption(CPU, 1), True),
        (DeviceOption(CPU), DeviceOption(CUDA), False),
        (DeviceOption(CUDA), DeviceOption(CUDA), True),
        (DeviceOption(CUDA), DeviceOption(CUDA, 1), False),
        (DeviceOption(CUDA), DeviceOption(HIP), False),
        (DeviceOption(CPU), proto.DeviceOption(), True),
        (DeviceOption(CPU), None, False),
        (None, None, True),
    ],
)
def test_equal_devices(one, other, equal):
    assert device_option_equal(one, other) is device_option_equal(other, one) is equal


def test_what_else_may_have_to_be_equal():
    one, other = DeviceOption(CPU, random_seed=1), DeviceOption(CPU, node_name="n")
    assert device_option_equal(one, other)
    assert not device_option_equal(one, other, ignore_node_name=False)
    assert not device_option_equal(one, other, ignore_random_seed=False)


def test_scopes_nest():
    assert CurrentDeviceScope() is None
    with DeviceScope(DeviceOption(CPU, 1)) as outer:
        assert CurrentDeviceScope() is outer
        assert outer == DeviceOption(CPU, 1)
        with DeviceScope(DeviceOption(CUDA, 2)):
            assert CurrentDeviceScope() == DeviceOption(CUDA, 2)
        with EmptyDeviceScope():
            assert CurrentDeviceScope() is None
        assert CurrentDeviceScope() is outer
    assert CurrentDeviceScope() is None


@pytest.mark.parametrize("scope", [DeviceScope(DeviceOption(CPU)), EmptyDeviceScope()])
def test_a_scope_ends_with_an_error(scope):
    with DeviceScope(DeviceOption(CPU, 5)):
        with pytest.raises(KeyError), scope:
            raise KeyError
        assert CurrentDeviceScope().device_id == 5


def test_what_a_scope_takes_from_the_one_around():
    option = DeviceOption(CPU, extra_info=["b"])
    with DeviceScope(option, node_name="outer"):
        with DeviceScope(DeviceOption(CPU, 1, extra_info=["c", "a"])):
            assert CurrentDeviceScope().node_name == "outer"
            assert list(CurrentDeviceScope().extra_info) == ["a", "b", "c"]
            assert CurrentDeviceScope().device_id == 1
        with DeviceScope(DeviceOption(CPU, node_name="mine")):
            assert CurrentDeviceScope().node_name == "mine"
        with DeviceScope(DeviceOption(CPU, node_name="mine"), node_name="given"):
            assert CurrentDeviceScope().node_name == "given"
        with DeviceScope(None, node_name="alone"):
            assert CurrentDeviceScope().node_name == "alone"
        with DeviceScope(0, node_name="alone"):
            assert not CurrentDeviceScope().HasField("device_type")
        with EmptyDeviceScope(), DeviceScope(DeviceOption(CPU)):
            assert not CurrentDeviceScope().HasField("node_name")
    # The caller's own is left alone.
    assert option == DeviceOption(CPU, extra_info=["b"])


@pytest.mark.parametrize("scope", [None, 0, "cpu", 1])
def test_a_scope_is_an_option(scope):
    with pytest.raises(TypeError, match="DeviceScope takes a DeviceOption"), DeviceScope(scope):
        pass


def test_operators_get_the_option_of_the_scope():
    net = Net("n")
    net.Relu("x", "y")
    with DeviceScope(DeviceOption(CPU, 3), node_name="n1"):
        net.Relu("y", "z")
    first, second = net.Proto().op
    assert not first.HasField("device_option")
    assert second.device_option == DeviceOption(CPU, 3, node_name="n1")
    assert InferBlobDevices(net) == {"y": first.device_option, "z": second.device_option}
    option = second.device_option
    assert InferOpDeviceAsBlobDevices(second) == ([option], [option])


def test_there_are_only_cpus():
    net = Net("n")
    with DeviceScope(DeviceOption(CUDA)):
        with pytest.raises(DeviceError, match=r"Relu.* CUDA \(device type 1\).* only the CPU"):
            net.Relu("x", "y")
        with EmptyDeviceScope():
            net.Relu("x", "y")
    assert [operator.type for operator in net.Proto().op] == ["Relu"]
    check_device(None, "it")
    check_device(DeviceOption(CPU), "it")
    with pytest.raises(DeviceError, match="it is to run on device type 77") as caught:
        check_device(DeviceOption(77), "it")
    assert caught.value.device_type == 77


def test_nothing_is_copied_among_cpus():
    first, second = Net("first"), Net("second")
    with DeviceScope(0, node_name="a"):
        first.Relu("x", "y")
    with DeviceScope(0, node_name="b"):
        second.Add(["y", "z"], "y")
    (one, two), devices = InjectDeviceCopiesAmongNets([first, second])
    assert (one.Name(), two.Name()) == ("first_cross_device", "second_cross_device")
    assert two is not second
    assert list(one.Proto().op) == list(first.Proto().op)
    assert list(two.Proto().op) == list(second.Proto().op)
    assert {blob: device.node_name for blob, device in devices.items()} == {
        "x": "",
        "y": "b",
        "z": "",
    }
    again = InjectDeviceCopiesAmongNetsWithoutB2D([first], {"x": DeviceOption(CPU, 4)})
    assert [net.Name() for net in again] == ["first_cross_device_1"]
    assert InferOpBlobDevicesAsDict(second.Proto().op[0]) == (
        {"y": devices["y"], "z": devices["y"]},
        {"y": devices["y"]},
    )


def test_what_would_have_to_be_copied():
    net = Net("n")
    net.Relu("x", "y")
    with pytest.raises(DeviceError, match="blob 'x' of net 'n' is to run on CUDA"):
        InjectCrossDeviceCopies(net, {"x": DeviceOption(CUDA)})
    net.Proto().op[0].device_option.CopyFrom(DeviceOption(HIP))
    with pytest.raises(DeviceError, match="operator Relu is to run on HIP"):
        InjectCrossDeviceCopies(net)


def test_each_thread_is_somewhere_else():
    seen = []

    def look():
        seen.append(CurrentDeviceScope())

    with DeviceScope(DeviceOption(CPU)):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [None]


def test_each_asyncio_task_is_somewhere_else():
    async def build(number, mine, other):
        with DeviceScope(DeviceOption(CPU, number)):
            mine.set()
            await asyncio.wait_for(other.wait(), 10)
            return CurrentDeviceScope().device_id

    async def both():
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(build(1, first, second), build(2, second, first))

    assert asyncio.run(both()) == [1, 2]
