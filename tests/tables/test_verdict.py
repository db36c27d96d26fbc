"""When a number is reproduced."""

import math

import pytest

from seglab.tables.layout import Cell, Sheet, bracket, winners
from seglab.tables.verdict import COMPUTED, COUNT, PERCENT, SCORE, number, verdict


@pytest.mark.parametrize(
    ("published", "measured", "noise", "kind", "said"),
    [
        (0.5, 0.505, None, SCORE, "reproduced"),
        (0.5, 0.4949, None, SCORE, "contradicted"),
        (0.5, 0.53, 0.016, SCORE, "within noise"),
        (0.5, 0.53, 0.015, SCORE, "contradicted"),  # not below two deviations
        (0.5, None, 0.1, SCORE, "not run"),
        (None, 0.5, None, SCORE, "not published"),
        (None, None, None, SCORE, "not published"),
        (68.33, 68.8, None, PERCENT, "reproduced"),
        (3.0, 4.0, None, COUNT, "contradicted"),
        (math.inf, math.inf, None, COUNT, "reproduced"),
        (math.inf, 7.0, None, COUNT, "contradicted"),
        (7.0, math.inf, None, COUNT, "contradicted"),
        (0.056, 0.0565, None, COMPUTED, "reproduced"),
        (0.056, 0.0566, None, COMPUTED, "contradicted"),
    ],
)
def test_the_rule(published, measured, noise, kind, said):
    assert verdict(published, measured, noise, kind) == said


def test_a_printed_nan_is_no_number():
    assert number("NaN") is None
    assert number("") is None
    assert number("0.50") == 0.5


def test_brackets_are_written_as_the_thesis_writes_them():
    assert bracket(0.062, SCORE) == "(+0.062)"
    assert bracket(-0.00004, SCORE) == "(0)"
    assert bracket(25.0, PERCENT) == "(+25)"
    assert bracket(-0.0006, SCORE) == "(-0.0006)"


def contest(*values, lower=False):
    return {
        (str(i), "x"): Cell(measured=value, contest="x", lower=lower)
        for i, value in enumerate(values)
    }


def test_bold_is_the_best_with_its_ties_and_only_of_a_whole_contest():
    assert winners(contest(0.5, 0.7, 0.7)) == {("1", "x"), ("2", "x")}
    assert winners(contest(3.0, 2.0, math.inf, lower=True)) == {("1", "x")}
    assert winners(contest(0.5, None)) == set()
    assert winners(contest(math.inf, math.inf, lower=True)) == set()


def test_the_compared_form_shows_both_numbers_their_difference_and_the_verdict():
    cell = Cell(published="0.5008", measured=0.5102)
    gone = Cell(published="", measured=math.inf, never="-", kind=COUNT)
    sheet = Sheet(
        "t", "T.", "", {"r": "R"}, {"a": "A", "b": "B"}, {("r", "a"): cell, ("r", "b"): gone}
    )
    shown = sheet.show("compared")
    assert shown["r", "a"].text == "0.5008 / 0.5102 / +0.0094 contradicted"
    assert shown["r", "b"].text == "- / - / +0 reproduced"
