"""Declaring operators: what a kernel's signature says, and what it must not say."""

import pickle

import numpy as np
import pytest

from procession.errors import OperatorExistsError, UnknownOperatorError
from procession.operators import REGISTRY, STOPS, alias, emit, operator
from procession.operators.registry import REQUIRED, Registry, Rule, define, described


def kernel(x, y=None, *, alpha=0.5, beta, out=None, rng=None):
    """Does things."""


@pytest.fixture
def registered():
    """Names that a test registers; they are forgotten after it."""
    names = []
    yield names
    for name in names:
        REGISTRY.remove(name)


def test_signature_is_the_definition():
    definition = define("Thing", kernel)
    assert (definition.min_inputs, definition.max_inputs) == (1, 2)
    assert definition.input_names == ("x", "y")
    assert (definition.min_outputs, definition.max_outputs) == (1, 1)
    assert dict(definition.arguments) == {"alpha": 0.5, "beta": REQUIRED}
    assert definition.requests == {"out", "rng"}
    assert definition.documentation == "Does things."
    assert definition.rules(1, {}) is None


def test_variadic_inputs():
    def pairs(first, *more):
        pass

    definition = define("Pairs", pairs, outputs=(0, None))
    assert (definition.min_inputs, definition.max_inputs) == (1, None)
    assert definition.input_names == ("first", "*more")
    assert (definition.min_outputs, definition.max_outputs) == (0, None)


def test_variadic_arguments_are_refused():
    def sloppy(x, **anything):
        pass

    with pytest.raises(TypeError, match=r"operator Sloppy: .* not \*\*anything"):
        define("Sloppy", sloppy)


@pytest.mark.parametrize("outputs", [0, 2, (0, 1), (1, None)])
def test_out_is_for_one_output(outputs):
    with pytest.raises(TypeError, match="exactly one output"):
        define("Thing", kernel, outputs=outputs)


def both(x, y, *more, out=None, outs=None):
    """Cannot be."""


def several(x, y, *, outs=None):
    """Does two things."""


def test_outs_are_for_any_number_of_outputs():
    for outputs in (1, 2, (1, 2), (0, None)):
        assert define("Thing", several, outputs=outputs).requests == {"outs"}
    assert not define("Thing", several, outputs=2).arguments
    with pytest.raises(TypeError, match="not both"):
        define("Thing", both)


def test_pairs_that_are_written_in_place():
    definition = define("Thing", several, outputs=2, in_place=[(0, 1), (1, 0)])
    assert definition.in_place == {(0, 1), (1, 0)}
    for pair in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(TypeError, match="no such pair"):
            define("Thing", several, outputs=2, in_place=[pair])
    with pytest.raises(TypeError, match="for kernels that take `outs`"):
        define("Thing", kernel, in_place=[(0, 0)])


def test_the_last_output_may_be_one_that_nobody_wants():
    assert define("Thing", several, outputs=(1, 2), spare_last=True).spare_last
    assert not define("Thing", several, outputs=(1, 2)).spare_last
    with pytest.raises(TypeError, match="a number of outputs that may differ"):
        define("Thing", several, outputs=2, spare_last=True)


def test_arguments_cannot_be_changed():
    with pytest.raises(TypeError):
        define("Thing", kernel).arguments["alpha"] = 1


def test_gradient_function_sees_defaults_and_what_was_given():
    seen = []

    def gradient(inputs, arguments):
        seen.append((inputs, dict(arguments)))
        return STOPS

    definition = define("Thing", kernel, gradient=gradient)
    assert definition.rules(2, {"beta": 3}) == STOPS
    assert seen == [(2, {"alpha": 0.5, "beta": 3})]


def test_emit_and_alias():
    rule = emit("ReluGradient", "O0 GO0", "GI0")
    assert (rule.type, rule.inputs, rule.outputs) == ("ReluGradient", ("O0", "GO0"), ("GI0",))
    assert rule.arguments is None
    assert emit("Scale", "GO0", "GI0", scale=2.0).arguments == {"scale": 2.0}
    assert alias("GO0", "GI1") == Rule(None, ("GO0",), ("GI1",))


def test_what_rules_say_of_their_symbols():
    rule = emit("Gradient", "~I0 I1 ?GO0 GO1", "GI0")
    assert rule.inputs == ("I0", "I1", "GO0", "GO1")
    assert (rule.shapes, rule.or_zeros) == ({"I0"}, {"GO0"})


def test_symbols_are_checked():
    with pytest.raises(ValueError, match=r"'\?I0' is not a symbol of a gradient's rules"):
        emit("Relu", "?I0", "GI0")
    with pytest.raises(ValueError, match="'X0' is not a symbol of a gradient's rules"):
        emit("Relu", "X0", "GI0")


def test_registering_and_forgetting(registered):
    @operator("TestDouble", gradient=[emit("Scale", "GO0", "GI0", scale=2.0)])
    def double(x):
        """Twice x."""
        return 2 * x

    registered.append("TestDouble")
    assert double(4) == 8
    assert REGISTRY["TestDouble"].kernel is double
    assert "TestDouble" in REGISTRY
    assert "TestDouble" in list(REGISTRY)


def test_name_is_taken_only_once():
    registry = Registry()
    registry.add(define("Thing", kernel))
    with pytest.raises(ValueError, match=r"'Thing' is registered already, by .*\.kernel") as caught:
        registry.add(define("Thing", lambda x: x))
    assert isinstance(caught.value, OperatorExistsError)
    assert caught.value.operator == "Thing"
    assert "REGISTRY.remove('Thing')" in str(caught.value)
    with pytest.raises(OperatorExistsError, match=r"own cannot be replaced: give yours another"):
        REGISTRY.add(define("Relu", kernel))
    registry.remove("Thing")
    registry.add(define("Thing", kernel))
    assert len(registry) == 1


def test_a_function_defined_again_takes_its_own_place():
    registry = Registry()
    for number in (1, 2):

        def again(x, *, number=number):
            return x

        registry.add(define("Thing", again))
        assert registry["Thing"].arguments == {"number": number}


def test_did_you_mean():
    with pytest.raises(UnknownOperatorError, match="Did you mean 'Relu'") as caught:
        REGISTRY["Rleu"]
    assert caught.value.operator == "Rleu"
    assert "Relu" in caught.value.suggestions
    assert isinstance(caught.value, AttributeError)
    assert "Rleu" not in REGISTRY


def test_definition_pickles():
    definition = define("Thing", kernel, gradient=[alias("GO0", "GI0")])
    copy = pickle.loads(pickle.dumps(definition))
    assert copy == definition
    assert copy is not definition
    assert copy.kernel is kernel


def test_modules_of_the_package_name_an_operator_once():
    def again():
        def kernel(x):
            return x

        kernel.__module__, kernel.__qualname__ = "procession.operators.family", "Thing"
        return define("Thing", kernel)

    registry = Registry()
    registry.add(again())
    # The same place, but not a second run of it: the first would be gone without a word.
    with pytest.raises(ValueError, match=r"registered already, by .*family\.Thing"):
        registry.add(again())


def test_what_every_process_has_pickles_by_name():
    assert REGISTRY["FC"].own
    assert pickle.loads(pickle.dumps(REGISTRY["FC"])) is REGISTRY["FC"]
    assert not define("Thing", kernel).own
    # One that is not registered is not found by name.
    other = define("FC", REGISTRY["FC"].kernel)
    assert pickle.loads(pickle.dumps(other)) == other != REGISTRY["FC"]


def test_a_kernel_that_a_function_made_is_described(registered):
    def declare(name, offset):
        @operator(name)
        @described(name, f"X plus {offset}.")
        def kernel(x, *, out=None):
            return np.add(x, offset, out=out)

    for offset, name in enumerate(("TestPlusNone", "TestPlusOne")):
        declare(name, offset)
        registered.append(name)
    definition = REGISTRY["TestPlusOne"]
    assert definition.documentation == "X plus 1."
    assert definition.kernel.__name__ == "TestPlusOne"
    assert definition.kernel(2) == 3
    assert REGISTRY["TestPlusNone"].documentation == "X plus 0."
    with pytest.raises(ValueError, match=r"registered already, by .*TestPlusOne"):
        operator("TestPlusOne")(described("TestPlusTwo", "X plus 2.")(lambda x: x + 2))
