import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import paddle
import pytest

from models.weights.state_files import read_state
from semindex.errors import UserError
from semindex.text import plain_pickle


def same(one, two):
    assert type(one) is type(two) or isinstance(one, dict) and isinstance(two, dict)
    if isinstance(one, paddle.Tensor):
        assert one.dtype == two.dtype and one.shape == two.shape
        assert one.name == two.name or one.name.startswith("generated") and two.name.startswith("generated")
        assert one.numpy().tobytes() == two.numpy().tobytes()
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
        assert one.flags.writeable
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two):
            same(a, b)
    else:
        assert one == two or one != one


def tensors():
    paddle.seed(3)
    return {"w": paddle.rand([3, 4]), "bf": paddle.rand([5]).astype("bfloat16"), "half": paddle.rand([2]).astype("float16"),
            "flags": paddle.to_tensor([True, False]), "none": paddle.zeros([0, 4]), "one": paddle.to_tensor(2.5),
            "long": paddle.arange(300), "wide": paddle.rand([2, 2]).astype("float64")}


STATES = {
    "weights": tensors,
    "in order": lambda: OrderedDict(tensors()),
    "optimizer": lambda: tensors() | {"LR_Scheduler": {"last_epoch": 3, "last_lr": 0.1, "verbose": False, "step": None, "big": 2**70,
                                                       "rates": [1, -2, 300, 70_000, -5.5]}},
    "master weights": lambda: tensors() | {"master_weights": tensors(), "LR_Scheduler": {"last_lr": float("inf")}},
    "scaler": lambda: tensors() | {"loss_scaler": {"scale": np.array([32768.0], np.float32), "n": np.float32(2), "on": True}},
    "lists": lambda: {"several": [paddle.ones([2]), (paddle.zeros([1]), "text")], "array": np.arange(3)},
    "arrays": lambda: {"a": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "deep": {"b": np.ones(2)}},
    "empty": dict,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("return_numpy", [False, True])
def test_reads_what_paddle_writes_as_paddle_does(tmp_path, kind, protocol, return_numpy):
    path = str(tmp_path / "state")
    paddle.save(STATES[kind](), path, protocol=protocol)
    same(read_state(path, return_numpy), paddle.load(path, return_numpy=return_numpy))


def test_parameters_in_parts(tmp_path):
    """What paddle.save does from 1 GB up with protocols 2 and 3, here of small parts."""
    path = str(tmp_path / "state")
    parts = {"w@@.0": np.arange(4, dtype=np.float32), "w@@.1": np.arange(2, dtype=np.float32), "b": np.ones(2, np.float32)}
    about = {"w": {"OriginShape": (2, 3), "slices": ["w@@.0", "w@@.1"]}}
    with open(path, "wb") as file:
        pickle.dump(parts | {"UnpackBigParamInfor@@": about, "StructuredToParameterName@@": {"w": "linear_0.w", "b": "linear_0.b"}}, file, 2)
    same(read_state(path), paddle.load(path))
    about["w"]["slices"] = ["w@@.0", "w@@.0"]
    with open(path, "wb") as file:
        pickle.dump(parts | {"UnpackBigParamInfor@@": about}, file, 2)
    with pytest.raises(UserError, match="large weights are not whole"):
        read_state(path)


def test_names_of_every_numpy_and_python():
    array, scalar = np.arange(6, dtype=">i4").reshape(2, 3), np.float64(0.5)
    for protocol in (2, 3, 4, 5):
        whole = pickle.dumps({"a": array, "s": scalar, "b": b"", "c": {"x", "y"}}, protocol)
        for new in (whole, whole.replace(b"cnumpy.core.", b"cnumpy._core.").replace(b"\x8c\x15numpy.core.", b"\x8c\x16numpy._core.").replace(
                b"\x8c\x12numpy.core.", b"\x8c\x13numpy._core.")):
            found = plain_pickle.load(io.BytesIO(new))
            np.testing.assert_array_equal(found["a"].value, array)
            assert found["s"] == 0.5 and found["b"] == b"" and found["c"] == {"x", "y"}
    # {'w': array of float32 1.0} as Python 2 pickled it: the bytes are a text
    python_2 = (b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\nU\x02f4K\x00K\x01"
                b"\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x00\x80?tbs.")
    np.testing.assert_array_equal(pickle.loads(python_2, encoding="latin1")["w"], [1])
    np.testing.assert_array_equal(plain_pickle.load(io.BytesIO(python_2))["w"].value, [1])


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Thing:
    pass


def evil(marker):
    touch = f"touch {marker}"
    code = f"open({marker!r}, 'w')"
    array = np.ones(2, np.float32)
    objects = np.array([Calls(os.system, touch)], object)
    fields = np.zeros(1, [("a", "f4"), ("b", "O")])
    return {
        "system": (Calls(os.system, touch), "posix.system"),
        "nested": ({"ptm.w": array, "deep": [{"x": (1, Calls(os.system, touch))}]}, "posix.system"),
        "eval": ({"w": Calls(eval, code)}, "builtins.eval"),
        "eval as paddle's": ({"w": Calls(eval, "data", {"data": Calls(eval, code)})}, "builtins.eval"),
        "eval with another name": ({"w": Calls(eval, "data", {"data": array, "__builtins__": {}})}, "builtins.eval"),
        "exec": ({"w": Calls(exec, code)}, "builtins.exec"),
        "import": ({"w": Calls(__import__, "antigravity")}, "builtins.__import__"),
        "getattr": ({"w": Calls(getattr, array, "dump")}, "builtins.getattr"),
        "a class": ({"w": Thing()}, "Thing"),
        "objects": ({"w": objects}, "the type 'O8'"),
        "fields": ({"w": fields}, "the type 'V12'"),
        "load": ({"w": Calls(np.load, "x.npy")}, "numpy"),
        "a function as a value": ({"w": tuple}, "builtins.tuple"),
        "a key": ({(1, 2): array}, "key"),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", evil(""))
def test_nothing_of_a_file_runs(tmp_path, name, protocol):
    marker = tmp_path / "ran"
    content, named = evil(str(marker))[name]
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        read_state(str(path))
    message = str(error.value).replace("__builtin__", "builtins")
    assert str(path) in message and named in message and not marker.exists()


def test_old_opcodes_that_call_are_refused(tmp_path):
    marker = tmp_path / "ran"
    for content in (f"cos\nsystem\n(S'touch {marker}'\ntR.", f"(S'touch {marker}'\nios\nsystem\n.", f"(cos\nsystem\nS'touch {marker}'\no."):
        path = tmp_path / "w"
        for start in (b"", b"\x80\x02"):
            path.write_bytes(start + content.encode())
            with pytest.raises(UserError):
                read_state(str(path))
            assert not marker.exists()


def test_a_type_with_a_forged_state_makes_no_pointers(tmp_path):
    """Numpy's own __setstate__ takes the flags of a type from the file, and then bytes for addresses of objects."""
    class Forged:
        def __reduce__(self):
            return np.dtype, ("O",), (3, "|", None, None, None, 8, 8, 0)

    class Pointers:
        def __reduce__(self):
            return np.core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Forged(), False, b"A" * 8)

    path = tmp_path / "w"
    path.write_bytes(pickle.dumps({"w": Pointers()}, 4))
    with pytest.raises(UserError, match="no number"):
        read_state(str(path))


@pytest.mark.slow
def test_lying_lengths_take_no_memory(tmp_path):
    huge = struct.pack("<Q", 2**40)
    lies = [b"\x80\x04\x8e" + huge, b"\x80\x04\x8d" + huge, b"\x80\x04\x96" + huge, b"\x80\x04B\xff\xff\xff\xff", b"\x80\x02}r\xff\xff\xff\xff.",
            b"\x80\x04\x95" + huge + b"}.", b"\x80\x02T\xff\xff\xff\xff", b"\x80\x02\x8b\xff\xff\xff\x7f", b"\x80\x04h\x07.", b"\x80\x04K\x01", b"", b"\x80",
            b"(" * 10 + b".", b"\x80\x04" + b")" + b"\x85" * 100_000 + b".", b"\x80\x04]q\x00h\x00a.", b"\x80\x09}.", b"\x80\x04}..", os.urandom(100)]
    deep = b"\x80\x04}\x8c\x01x" + b"]" * 50_000 + b"a" * 49_999 + b"s."
    itself = b"\x80\x04}\x94\x8c\x01xh\x00s."
    for lie in [*lies, deep, itself]:
        path = tmp_path / "w"
        path.write_bytes(lie)
        tracemalloc.start()
        with pytest.raises(UserError, match="cannot be read as paddle weights"):
            try:
                found = read_state(str(path))
                assert found == {}  # two of the lies are harmless here
            except UserError:
                raise
            raise UserError("cannot be read as paddle weights")
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
        tracemalloc.stop()


def test_one_piece_is_no_thousand_arrays(tmp_path):
    class Again:
        def __init__(self, content):
            self.content = content

        def __reduce__(self):
            return np.core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (len(self.content),), np.dtype("u1"), False, self.content)

    content = b"x" * 100_000
    path = tmp_path / "w"
    path.write_bytes(pickle.dumps({str(i): Again(content) for i in range(100)}, 4))
    with pytest.raises(UserError, match="more in memory than on the disk"):
        read_state(str(path))


@pytest.mark.slow
def test_cuts_and_changes_are_one_error_or_a_state(tmp_path):
    path = tmp_path / "w"
    paddle.save(STATES["optimizer"](), str(path))
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="cannot be read as paddle weights"):
            read_state(str(path))
    for _ in range(1500):
        changed = bytearray(whole)
        changed[random.randint(len(whole))] = random.randint(256)
        path.write_bytes(changed)
        try:
            assert isinstance(read_state(str(path)), dict)
        except UserError as error:
            assert "\n" not in str(error)
