"""Codes of dates against the calendar of the standard library, and against the published formulas written out."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.geo import year_and_day
from rsfm_jax.nn.dates import TIME_FEATURES, month_and_hour, prithvi_time, satmae_time, time_features


def code(value: float, dim: int) -> np.ndarray:
    """Sines, then cosines, of one number."""
    angle = value / 10000.0 ** (np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.sin(angle), np.cos(angle)])


def times(*moments: datetime.datetime | None) -> jnp.ndarray:
    return jnp.array([year_and_day(moment) for moment in moments], jnp.float32)


def test_years_and_seasons_are_coded_apart():
    dates = jnp.array([[1.0, 2018.0, 100.0], [1.0, 2019.0, 100.0], [1.0, 2018.0, 280.0], [1.0, 2018.0, 100.0 + 365.2425]])
    features = np.asarray(time_features(dates))
    assert features.shape == (4, TIME_FEATURES)
    np.testing.assert_allclose(features[0, :16], code(18.0, 16), atol=1e-5)
    np.testing.assert_array_equal(features[0, 16:], features[1, 16:])  # one season
    assert abs(features[0, :16] - features[1, :16]).max() > 0.1
    np.testing.assert_array_equal(features[0, :16], features[2, :16])  # one year
    assert abs(features[0, 16:] - features[2, 16:]).max() > 0.1
    np.testing.assert_allclose(features[0, 16:], features[3, 16:], atol=1e-4)  # the season comes again
    angle = 2 * np.pi * 100.0 / 365.2425 * np.arange(1, 5)
    np.testing.assert_allclose(features[0, 16:], np.concatenate([np.sin(angle), np.cos(angle)]), atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    day=st.dates(datetime.date(1984, 1, 1), datetime.date(2035, 12, 31)),
    hour=st.integers(0, 23),
    quarter=st.integers(0, 3),
)
def test_month_and_hour_are_the_calendar_s(day: datetime.date, hour: int, quarter: int):
    moment = datetime.datetime(day.year, day.month, day.day, hour, 15 * quarter)
    month, hours = month_and_hour(times(moment))
    assert float(month[0]) == day.month - 1
    np.testing.assert_allclose(hours[0], hour + quarter / 4, atol=24 * 365 * 2**-23)


@pytest.mark.parametrize(("year", "leap"), [(2019, False), (2020, True), (2000, True), (1900, False), (2100, False)])
def test_march_begins_a_day_later_in_a_leap_year(year: int, leap: bool):
    months, _ = month_and_hour(jnp.array([[1.0, year, day] for day in (58, 59, 60, 364 + leap)], jnp.float32))
    assert months.tolist() == ([1, 1, 2, 11] if leap else [1, 2, 2, 11])


def test_january_has_31_days_in_every_year():
    months, _ = month_and_hour(jnp.array([[1.0, year, day] for year in (2019, 2020) for day in (30, 31)], jnp.float32))
    assert months.tolist() == [0, 1, 0, 1]


def test_satmae_codes_year_month_and_whole_hour():
    found = satmae_time(times(datetime.datetime(2016, 3, 1, 13, 30)), 8)
    expected = np.concatenate([code(2016 - 2002, 8), code(2, 8), code(13, 8)])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_prithvi_codes_year_and_day_of_year():
    found = prithvi_time(times(datetime.datetime(2016, 3, 1)), 32)
    assert found.shape == (1, 32)
    np.testing.assert_allclose(found[0], np.concatenate([code(2016, 16), code(60, 16)]), atol=5e-4)  # float32 of 2016 radians
