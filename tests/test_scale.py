"""The scale of stored values: round trips, percentiles, and what is refused."""

import numpy as np
import pytest

from dvae_tf.kinds.image import pixels
from dvae_tf.kinds.image.scale import Scale


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [None, Scale(0, 4095), Scale(100.5, 3000)])
def test_every_level_comes_back(dtype, scale):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    scale = scale or Scale.of(dtype)
    unit = scale.to_unit(levels)
    assert unit.dtype == np.float32
    expected = (levels.astype(float) - scale.low) / (scale.high - scale.low)
    np.testing.assert_allclose(unit, expected, rtol=2e-7, atol=2e-7)
    np.testing.assert_array_equal(scale.from_unit(unit, dtype), levels, strict=True)


def test_eight_bits_are_what_a_model_was_trained_on():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        Scale.of(np.uint8).to_unit(levels), pixels.as_float(levels), strict=True
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_stay_as_they_are(dtype):
    values = np.array([-0.5, 0, 0.25, 1, 7.5, np.nan], dtype)
    scale = Scale.of(dtype)
    np.testing.assert_array_equal(scale.to_unit(values), values.astype(np.float32), strict=True)
    np.testing.assert_array_equal(scale.from_unit(values.astype("f4"), dtype), values, strict=True)


def test_doubles_far_from_zero_keep_their_differences():
    """Converted first, all of them would be one float32."""
    values = 1e9 + np.arange(5.0)
    scale = Scale(1e9, 1e9 + 4)
    np.testing.assert_array_equal(scale.to_unit(values), np.arange(5, dtype="f4") / 4)
    np.testing.assert_array_equal(scale.from_unit(np.arange(5) / 4, np.float64), values)
    levels, scale = 2**31 + 256 * np.arange(5, dtype=np.uint32), Scale.of(np.uint32)
    again = scale.from_unit(scale.to_unit(levels), np.uint32)
    assert np.abs(again.astype(np.int64) - levels).max() <= 128  # half a step of float32


def test_integers_are_rounded_and_clipped_and_nothing_else_is():
    unit = np.array([-1, -0.001, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.01, 3, np.inf], "f4")
    expected = np.array([0, 0, 0, 1, 255, 255, 255, 255], np.uint8)
    np.testing.assert_array_equal(Scale.of(np.uint8).from_unit(unit, np.uint8), expected)
    # Values beyond black and white remain as long as the type can hold them.
    stored = Scale(100, 200).from_unit(np.array([-0.5, 1.5]), np.uint16)
    np.testing.assert_array_equal(stored, [50, 250])
    np.testing.assert_array_equal(Scale(100, 200).from_unit(np.array([1.5]), np.float32), [250])
    with pytest.raises(ValueError, match="must be finite to be stored as uint8"):
        Scale.of(np.uint8).from_unit(np.array([0, np.nan]), np.uint8)


def test_the_arguments_are_left_alone():
    values = np.linspace(0, 1, 5, dtype=np.float32)
    before = values.copy()
    Scale(0.5, 2).to_unit(values)
    Scale(0.5, 2).from_unit(values, np.float32)
    np.testing.assert_array_equal(values, before)


def test_texts():
    assert Scale.from_text("0,4095") == Scale(0, 4095)
    assert Scale.from_text(" -1.5, 2e3 ") == Scale(-1.5, 2000)
    for scale in (Scale(0, 65535), Scale(1 / 3, 2 / 3)):
        assert Scale.from_text(str(scale)) == scale
    images = [np.arange(101, dtype=np.uint16)[:50], np.arange(101, dtype=np.uint16)[50:, None]]
    assert Scale.from_text("percentile:1,99", images) == Scale(1, 99)
    images.append(np.array([np.nan, np.inf]))
    assert Scale.from_text("percentile:0,100", images) == Scale(0, 100)


def test_percentiles_of_large_images_come_from_all_columns():
    """Half of the columns are 0: an even step would see only one half."""
    image = np.zeros((2048, 2048), np.uint8)
    image[:, 1::2] = 200
    low, high = 25, 75
    assert Scale.from_text(f"percentile:{low},{high}", [image]) == Scale(0, 200)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "LO,HI"),
        ("1", "LO,HI"),
        ("1,2,3", "LO,HI"),
        ("a,b", "LO,HI"),
        ("2,1", "LO below HI"),
        ("1,1", "LO below HI"),
        ("0,inf", "finite"),
        ("nan,1", "finite"),
        ("percentile:1", "percentile:A,B"),
        ("percentile:99,1", "percentile:A,B"),
        ("percentile:-1,99", "percentile:A,B"),
        ("quantile:1,99", "percentile:A,B"),
        (":1,99", "percentile:A,B"),
        ("percentile:1,99", "needs images"),
    ],
)
def test_texts_that_are_refused(text, words):
    with pytest.raises(ValueError, match=f"^`range`.*{words}") as raised:
        Scale.from_text(text)
    assert "\n" not in str(raised.value)


def test_other_refusals():
    with pytest.raises(ValueError, match="span different values"):
        Scale.from_text("percentile:1,99", [np.ones(9)])
    with pytest.raises(ValueError, match="must be given for values of type int16"):
        Scale.of(np.int16)


def test_saturated():
    levels = np.array([0, 3, 254, 255], np.uint8)
    assert Scale.of(np.uint8).saturated(levels) == 0.25
    assert Scale(0, 254).saturated(levels) == 0.5
    assert Scale(0, 300).saturated(levels) == 0.25
    assert Scale.of(np.float32).saturated(np.array([0.5, 1, 1.5, np.nan])) == 0.25
    assert Scale.of(np.uint16).saturated(np.zeros((0, 3), np.uint16)) == 0
