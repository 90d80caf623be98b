import re

import jax
import ml_dtypes
import numpy as np
import pytest

from vljepa_jax.convert.rules import ConversionError, Entry, Ignored, Table, convert
from vljepa_jax.convert.transforms import LINEAR, Convolution

TABLE = Table(
    prefix=r"(?:model\.)?",
    entries=(
        Entry("layers.{layer}.linear.weight", "layers/linear/kernel", LINEAR),
        Entry("layers.{layer}.norm.weight", "layers/norm/scale"),
        Entry("patch.weight", "patch/kernel", Convolution((2, 1, 2))),
    ),
    ignored=(Ignored(r"head\..*", "not used"),),
    first_layer=2,
    other_layers="the model holds layers 2 and 3",
)


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


TARGET = {
    "layers": {"linear": {"kernel": leaf(2, 4, 3)}, "norm": {"scale": leaf(2, 3)}},
    "patch": {"kernel": leaf(2 * 1 * 2 * 3, 5)},
}


def source():
    rng = np.random.default_rng(0)
    shapes = {"patch.weight": (5, 3, 2, 1, 2), "head.bias": (7,)}
    for layer in (1, 2, 3):
        shapes |= {
            f"layers.{layer}.linear.weight": (3, 4),
            f"model.layers.{layer}.norm.weight": (3,),
        }
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def faults(arrays, table=TABLE, target=TARGET):
    with pytest.raises(ConversionError) as caught:
        convert(arrays, table, target)
    return str(caught.value)


def test_fills_the_tree():
    arrays = source()
    tree = convert(arrays, TABLE, TARGET)
    for index, layer in enumerate((2, 3)):
        np.testing.assert_array_equal(
            tree["layers"]["linear"]["kernel"][index], arrays[f"layers.{layer}.linear.weight"].T
        )
        np.testing.assert_array_equal(
            tree["layers"]["norm"]["scale"][index], arrays[f"model.layers.{layer}.norm.weight"]
        )
    pixels = np.random.default_rng(1).standard_normal((2, 1, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(
        pixels.reshape(-1) @ tree["patch"]["kernel"],
        np.einsum("thwc,octhw->o", pixels, arrays["patch.weight"]),
        rtol=1e-5,
    )


def test_half_precision_becomes_the_parameters_type():
    arrays = {key: value.astype(ml_dtypes.bfloat16) for key, value in source().items()}
    tree = convert(arrays, TABLE, TARGET)
    assert {array.dtype for array in jax.tree.leaves(tree)} == {np.dtype("float32")}


def test_arrays_are_read_one_at_a_time():
    arrays = source()

    class Lazy(dict):
        def __getitem__(self, key):
            assert not key.startswith("head")
            return arrays[key]

    convert(Lazy(dict.fromkeys(arrays)), TABLE, TARGET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": np.ones(3)}, "extra: unknown key"),
        ({"layers.2.norm.weight": np.ones(3)}, "fills layers/norm/scale[0]"),
        ({"layers.2.linear.weight": np.ones((4, 3))}, "layers/linear/kernel needs (4, 3)"),
        ({"layers.2.linear.weight": np.ones(3)}, "2 dimensions are expected"),
        ({"patch.weight": np.full((5, 3, 2, 1, 2), np.nan)}, "60 NaN or infinite"),
        ({"patch.weight": np.ones((5, 3, 2, 1, 2), np.int32)}, "type int32"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    assert message in faults(source() | change)


def test_missing_key_names_key_and_parameter():
    arrays = source()
    del arrays["layers.3.linear.weight"]
    assert "layers.3.linear.weight: missing, layers/linear/kernel[1]" in faults(arrays)


def test_all_faults_are_reported_together():
    arrays = source() | {"extra": np.ones(3), "patch.weight": np.ones((5, 3, 2, 1, 1))}
    del arrays["model.layers.2.norm.weight"]
    message = faults(arrays)
    for key in ("extra", "patch.weight", "layers.2.norm.weight"):
        assert re.search(rf"^  {re.escape(key)}: ", message, re.MULTILINE), message


def test_layers_outside_the_stack_are_faults_unless_the_table_says_why():
    strict = Table(TABLE.entries, TABLE.ignored, TABLE.prefix, first_layer=2)
    assert "layers.1.linear.weight: the model has 2 layers" in faults(source(), strict)


def test_tables_must_be_unambiguous_and_complete():
    twice = Table((*TABLE.entries, Entry("patch.weight", "patch/kernel")), TABLE.ignored)
    assert "patch.weight: matches several entries" in faults(source(), twice)
    ignored = Table(TABLE.entries, (Ignored(r"patch\..*", "why not"),))
    assert "patch.weight: matches several entries" in faults(source(), ignored)
    larger = TARGET | {"bias": leaf(3)}
    assert "bias: the table has no entry" in faults(source(), target=larger)
    smaller = {"layers": TARGET["layers"]}
    assert "patch.weight: the model has no parameter patch/kernel" in faults(
        source(), target=smaller
    )
