"""A pickle read as data: it builds nothing but tensor references and inert containers.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program names.
This machine follows the same instructions (parsed by the standard library's ``pickletools``) but knows no import and no
call: a class or function becomes a `Name`, calling one becomes an `Inert` record of what was asked for, and only the
handful of names with which PyTorch writes tensors turn into `TensorRef`. So no code of a file ever runs, whatever the
file holds. Names of the standard library that no weight file needs (``os.system``, ``builtins.eval``, …) are refused on
sight all the same: not because they could run here, but because the file's owner should know.

Memory stays in proportion to the file: an instruction that announces more bytes than follow is an error, instructions
and the elements that calls copy are counted, and shapes are checked against their storage before any array exists (in
`torch_files`).
"""

import pickletools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

MOST_INSTRUCTIONS = 1 << 20  # a whole ResNet-200 with optimiser state has about 100,000; each may take 100 bytes
MOST_DIMENSIONS = 16


class PickleRefused(ValueError):
    """The pickle is damaged or asks for what no weight file needs; the message is a clause without a final stop."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the file names. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Inert:
    """What the file wanted to be an object: which class or function, with what. Nothing was called."""

    name: Name | None
    arguments: Any = ()
    state: Any = None
    entries: dict[Any, Any] | None = None


@dataclass(eq=False, slots=True)
class StorageRef:
    """Numbers that lie elsewhere in the file.

    Attributes:
      key: their name in the container.
      dtype: NumPy's name of the number type, e.g. ``"float32"``.
      numel: how many numbers the file claims.
      start: where a view begins, in numbers of the storage it looks into.
    """

    key: str
    dtype: str
    numel: int
    start: int = 0


@dataclass(eq=False, slots=True)
class TensorRef:
    """A tensor as the file describes it: a strided window on a storage; offset and strides in numbers, not bytes."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_DICTS = {("collections", "OrderedDict"), ("collections", "defaultdict")}
_TENSOR = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6}  # of torch._utils → least number of arguments
_WRAPPERS = {
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.autograd.variable", "Variable"),
}
_BUFFER_KEYS = (str, int, float, bool, bytes, type(None), Name)
_MARK = object()
# what trained modules and their settings are made of, of the standard library; every other name of it is refused
_HARMLESS: dict[str, frozenset[str] | None] = {  # None: all of the module
    "__main__": None,
    "builtins": frozenset(
        [
            *("object", "type", "set", "frozenset", "list", "dict", "tuple", "int", "long", "float", "bool", "complex"),
            *("str", "unicode", "bytes", "bytearray", "slice", "range", "xrange", "getattr", "Ellipsis"),
        ]
    ),
    "_codecs": frozenset(["encode"]),
    "argparse": frozenset(["Namespace"]),
    "collections": frozenset(["OrderedDict", "defaultdict", "deque", "Counter"]),
    "copyreg": frozenset(["_reconstructor", "__newobj__", "__newobj_ex__"]),
    "datetime": None,
    "decimal": frozenset(["Decimal"]),
    "enum": None,
    "fractions": frozenset(["Fraction"]),
    "functools": frozenset(["partial"]),
    "logging": frozenset(["getLogger", "Logger"]),
    "pathlib": frozenset(["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"]),
    "random": frozenset(["Random"]),
    "types": frozenset(["SimpleNamespace"]),
    "uuid": frozenset(["UUID"]),
}
_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PYTHON2_LIBRARY = frozenset(["commands", "cPickle", "exceptions", "popen2", "posixfile", "urllib2"])


def _name(module: str, attribute: str) -> Name:
    """The name of a class or function, not imported; refused where only a hostile file has a use for it."""
    at_home = _PYTHON2.get(module, module)
    top = at_home.partition(".")[0]
    if top in sys.stdlib_module_names or top in _PYTHON2_LIBRARY:
        allowed = _HARMLESS.get(at_home, frozenset())
        if allowed is not None and attribute not in allowed:
            raise PickleRefused(
                f"it names {f'{module}.{attribute}'[:80]!r}, for which weights have no use: it may be meant to run code"
                " (nothing of it was run)"
            )
    return Name(module, attribute)


def whole(value: object, what: str) -> int:
    """`value` as a non-negative int below 2**62, or PickleRefused naming `what`."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise PickleRefused(f"{what} is no sensible number")
    return value


def _wholes(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > MOST_DIMENSIONS:
        raise PickleRefused(f"{what} is no sensible shape")
    return tuple(whole(v, what) for v in value)


def _call(charge: Callable[[int], None], function: object, arguments: object) -> object:
    """What a call in the file stands for: a tensor, a container, or the record of a call that is not made.

    ``charge`` is told how many elements are copied: a file may name one list in any number of calls.
    """
    if not isinstance(arguments, tuple):
        raise PickleRefused("a call in it has no arguments")
    if not isinstance(function, Name):
        return Inert(None, arguments)
    place = (function.module, function.name)
    if function.module == "torch._utils" and function.name in _TENSOR:
        if len(arguments) < _TENSOR[function.name] or not isinstance(arguments[0], StorageRef):
            raise PickleRefused("a tensor in it has no storage")
        shape = _wholes(arguments[2], "the shape of a tensor")
        strides = _wholes(arguments[3], "the strides of a tensor")
        if len(shape) != len(strides):
            raise PickleRefused("a tensor in it has more sizes than strides")
        return TensorRef(arguments[0], whole(arguments[1], "the offset of a tensor"), shape, strides)
    if place in _WRAPPERS and arguments and isinstance(arguments[0], TensorRef):
        return arguments[0]
    if place == ("torch._tensor", "_rebuild_from_type_v2") and len(arguments) >= 3 and isinstance(arguments[0], Name):
        inner = (arguments[0].module, arguments[0].name)
        return Inert(function, arguments) if inner == place else _call(charge, arguments[0], arguments[2])
    if place in _DICTS:
        result: dict[Any, Any] = {}
        if function.name == "OrderedDict" and arguments and isinstance(arguments[0], (list, tuple)):
            charge(len(arguments[0]))
            for pair in arguments[0]:  # Python 2 wrote a list of [key, value]
                if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                    raise PickleRefused("an ordered dictionary in it is misshapen")
                result[_key(pair[0])] = pair[1]
        return result
    if place == ("torch", "Size") and arguments and isinstance(arguments[0], (tuple, list)):
        charge(len(arguments[0]))
        return tuple(arguments[0])
    if place in (("__builtin__", "set"), ("builtins", "set"), ("builtins", "frozenset"), ("__builtin__", "frozenset")):
        elements = arguments[0] if arguments and isinstance(arguments[0], (tuple, list)) else ()
        charge(len(elements))
        return list(elements)
    if function.name in ("_reconstructor", "__newobj__") and function.module in ("copy_reg", "copyreg"):
        charge(len(arguments))
        return _new(charge, arguments[0] if arguments else None, arguments[1:])
    return Inert(function, arguments)


def _new(charge: Callable[[int], None], cls: object, arguments: tuple[object, ...]) -> object:
    if isinstance(cls, Name) and ((cls.module, cls.name) in _DICTS or (cls.module, cls.name) in _WRAPPERS):
        return _call(charge, cls, arguments)
    return Inert(cls if isinstance(cls, Name) else None, arguments)


def _key(key: object) -> object:
    """A dictionary key: plain ones as they are, any other replaced by a fresh record (it is never hashed)."""
    return key if isinstance(key, _BUFFER_KEYS) else Inert(None)


def _set_item(target: object, key: object, value: object) -> None:
    if isinstance(target, Inert):
        if target.entries is None:
            target.entries = {}
        target.entries[_key(key)] = value
    elif isinstance(target, dict):
        target[_key(key)] = value
    elif not isinstance(target, (TensorRef, Name)):
        raise PickleRefused("it files an item into what is no dictionary")


def _append(target: object, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, Inert):
        for value in values:
            _set_item(target, len(target.entries or ()), value)
    else:
        raise PickleRefused("it appends to what is no list")


def _build(target: object, state: object) -> None:
    if isinstance(target, Inert):
        target.state = state
    # dictionaries carry PyTorch's _metadata this way, tensors their Python attributes: of no use here


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    if len(values) % 2:
        raise PickleRefused("a dictionary in it lacks a value")
    return list(zip(values[::2], values[1::2]))


class _Machine:
    """The stack machine. `run` gives the object that the pickle leaves on the stack."""

    def __init__(self, persistent: Callable[[Any], object], most: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent = persistent
        self.most = self.left = most

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleRefused("its stack is in disorder")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise PickleRefused("its stack is in disorder")
        return self.stack[-1]

    def to_mark(self) -> list[Any]:
        """Everything above the last mark; the mark goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleRefused("its stack is in disorder")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def charge(self, count: int) -> None:
        """Takes what costs as much as so many instructions off those that are left."""
        self.left -= count
        if self.left < 0:
            raise PickleRefused(f"it has more than {self.most:,} instructions")

    def run(self, stream: BinaryIO) -> object:
        for code, argument, _ in pickletools.genops(stream):
            self.charge(1)
            if code.name == "STOP":
                return self.pop()
            self.step(code.name, argument)
        raise PickleRefused("it ends too early")

    def step(self, name: str, argument: Any) -> None:
        if name not in _INSTRUCTIONS:
            raise PickleRefused(f"it uses the instruction {name}, which no weight file needs")
        _INSTRUCTIONS[name](self, argument)

    # --- the instructions; `argument` is what stands beside one in the file

    def memoize(self, argument: int | None) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.top()

    def recall(self, argument: int) -> None:
        self.push(self.memo[argument])

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def dict_to_mark(self) -> None:
        self.push({_key(key): value for key, value in _pairs(self.to_mark())})

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        _set_item(self.top(), key, value)

    def set_items(self) -> None:
        for key, value in _pairs(self.to_mark()):
            _set_item(self.top(), key, value)

    def append(self) -> None:
        value = self.pop()
        _append(self.top(), [value])

    def append_to_mark(self) -> None:
        values = self.to_mark()
        _append(self.top(), values)

    def build(self) -> None:
        state = self.pop()
        _build(self.top(), state)

    def global_name(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        self.push(_name(module, attribute))

    def stack_global(self) -> None:
        attribute, module = self.pop(), self.pop()
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise PickleRefused("it names a class by something that is no text")
        self.push(_name(module, attribute))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.push(_call(self.charge, function, arguments))

    def new_object(self) -> None:
        arguments, cls = self.pop(), self.pop()
        self.push(_new(self.charge, cls, arguments if isinstance(arguments, tuple) else ()))

    def new_object_with_keywords(self) -> None:
        self.pop()  # keyword arguments
        self.new_object()

    def object_to_mark(self) -> None:
        values = self.to_mark()
        self.push(_new(self.charge, values[0], tuple(values[1:])))

    def instance(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        self.push(_new(self.charge, _name(module, attribute), tuple(self.to_mark())))


_Instruction = Callable[[_Machine, Any], object]


def _each(names: str, instruction: _Instruction) -> dict[str, _Instruction]:
    return dict.fromkeys(names.split(), instruction)


_INSTRUCTIONS: dict[str, _Instruction] = {
    **_each("PROTO FRAME", lambda machine, _: None),
    **_each("INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT", _Machine.push),
    **_each("STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8", _Machine.push),
    **_each("BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8", _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    **_each("EMPTY_LIST EMPTY_SET", lambda machine, _: machine.push([])),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": lambda machine, _: machine.push(_MARK),
    **_each("PUT BINPUT LONG_BINPUT MEMOIZE", _Machine.memoize),
    **_each("GET BINGET LONG_BINGET", _Machine.recall),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.to_mark())),
    **_each("LIST FROZENSET", lambda machine, _: machine.push(machine.to_mark())),
    "DICT": lambda machine, _: machine.dict_to_mark(),
    "SETITEM": lambda machine, _: machine.set_item(),
    "SETITEMS": lambda machine, _: machine.set_items(),
    "APPEND": lambda machine, _: machine.append(),
    **_each("APPENDS ADDITEMS", lambda machine, _: machine.append_to_mark()),
    "BUILD": lambda machine, _: machine.build(),
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": lambda machine, _: machine.stack_global(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new_object(),
    "NEWOBJ_EX": lambda machine, _: machine.new_object_with_keywords(),
    "OBJ": lambda machine, _: machine.object_to_mark(),
    "INST": _Machine.instance,
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
    "PERSID": lambda machine, argument: machine.push(machine.persistent(argument)),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.to_mark(),
    "DUP": lambda machine, _: machine.push(machine.top()),
}


def instructions_for(size: int) -> int:
    """How many instructions and copies a file of `size` bytes may have: its objects stay within a few times that."""
    return min(MOST_INSTRUCTIONS, 100_000 + size // 16)


def load(stream: BinaryIO, persistent: Callable[[Any], object] | None = None, most: int = MOST_INSTRUCTIONS) -> Any:
    """Reads one pickle and leaves the stream right behind it.

    Args:
      stream: binary, in memory or mapped (``read`` must clamp to what is there).
      persistent: what stands for a persistent id (PyTorch: a storage); without it such an id is refused.
      most: the number of instructions, and of elements copied by calls, beyond which it is refused.

    Returns:
      Numbers, text, None, lists, tuples and dicts, and among them `Name`, `Inert`, `TensorRef` and what `persistent`
      gives. Sets come as lists; the same object may stand in several places, and in itself.

    Raises:
      PickleRefused: the pickle is damaged or asks for what no weight file needs.
    """

    def refuse(_: object) -> object:
        raise PickleRefused("it refers to numbers outside of itself")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of odd escapes in protocol 0's texts
            return _Machine(persistent or refuse, most).run(stream)
    except PickleRefused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        # pickletools' own complaints and whatever a stack in disorder leads to: the file's fault, never the reader's
        raise PickleRefused(f"its pickle cannot be followed ({type(error).__name__.lower()})") from error
