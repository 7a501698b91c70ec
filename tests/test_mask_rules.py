"""The table of masking policies: what its lines mean, and what is said of a wrong one."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from rsfm_jax.config import MaskConfig
from rsfm_jax.errors import InputError
from rsfm_jax.mask_rules import MEASURED_RELATIONS, NAMED_RELATIONS, POLICIES, Condition, Rule, parse_table

ANY = "any: consistent"

named = st.builds(Condition, st.sampled_from(NAMED_RELATIONS), st.just("="), st.sampled_from(["same", "other"]))
measured = st.builds(Condition, st.sampled_from(MEASURED_RELATIONS), st.sampled_from(["<=", ">"]), st.floats(0, 1e6))
rules = st.builds(Rule, st.lists(named | measured, min_size=1, max_size=3).map(tuple), st.sampled_from(POLICIES))
gaps = st.sampled_from(["", " ", "  "])


@settings(max_examples=100, deadline=None)
@given(st.lists(rules, max_size=4), st.sampled_from(POLICIES), gaps)
def test_a_table_is_read_line_by_line_whatever_its_spaces(table: list[Rule], last: str, gap: str):
    lines = [
        f"{gap}{' and '.join(f'{c.relation}{gap}{c.operator}{gap}{c.value}' for c in rule.conditions)}{gap}:{gap}{rule.policy}{gap}"
        for rule in table
    ]
    assert parse_table((*lines, f"any{gap}:{gap}{last}")) == (*table, Rule((), last))


def test_the_lines_of_the_docstring_by_hand():
    assert parse_table(("sensor=same and gap_days<=3: complementary", "gsd_ratio>30: full", ANY)) == (
        Rule((Condition("sensor", "=", "same"), Condition("gap_days", "<=", 3.0)), "complementary"),
        Rule((Condition("gsd_ratio", ">", 30.0),), "full"),
        Rule((), "consistent"),
    )


def test_the_default_table_keeps_one_moment_together_and_other_dates_apart():
    first, second, last = parse_table(MaskConfig().table)
    assert first == Rule((Condition("acquisition", "=", "same"),), "consistent")
    assert second == Rule((Condition("sensor", "=", "same"),), "independent")
    assert last == Rule((), "consistent")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sensor=same", r"must read 'conditions: policy', such as 'sensor=same: independent'"),
        ("sensor=same: indepndent", r"there is no policy 'indepndent' \(there are .*complementary, full\); did you mean 'independent'\?"),
        ("sensor=same:", r"there is no policy ''"),
        ("sensr=same: full", r"there is no relation 'sensr' \(there are acquisition, .*overlap\); did you mean 'sensor'\?"),
        ("gapdays<=3: full", r"there is no relation 'gapdays' .*; did you mean 'gap_days'\?"),
        ("weather=same: full", r"there is no relation 'weather' \(there are .*overlap\)$"),
        ("sensor=equal: full", r"sensor must be compared as 'sensor=same' or 'sensor=other'"),
        ("sensor<=2: full", r"sensor must be compared as 'sensor=same' or 'sensor=other'"),
        ("acquisition>same: full", r"acquisition must be compared as 'acquisition=same' or 'acquisition=other'"),
        ("gap_days<=three: full", r"gap_days must be compared with a number by <= or >, such as 'gap_days<=2'"),
        ("gap_days<=-3: full", r"gap_days must be compared with a number"),
        ("gap_days<=nan: full", r"gap_days must be compared with a number"),
        ("overlap>=0.5: full", r"overlap must be compared with a number by <= or >"),
        ("gsd_ratio=2: full", r"gsd_ratio must be compared with a number by <= or >"),
        ("gap_days<3: full", r"'gap_days<3' is no condition; write 'any', 'sensor=same' or 'gap_days<=30' \(relations: .*overlap\)"),
        ("gap_days: full", r"'gap_days' is no condition"),
        (": full", r"'' is no condition"),
        ("any and sensor=same: full", r"'any' is no condition"),
        ("sensor=same and: full", r"'sensor=same and' is no condition"),
        ("sensor=same or gap_days<=3: full", r"'sensor=same or gap_days<=3' is no condition"),
    ],
)
def test_a_wrong_line_is_named_with_what_would_be_right(line: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        parse_table(("acquisition=same: full", line, ANY))
    assert str(caught.value).startswith(f"config.mask.table[1]={line!r}: ")


@pytest.mark.parametrize("lines", [(), ("sensor=same: full",), ("sensor=same: full", "sensor=other: full")])
def test_the_last_line_must_hold_for_every_member(lines: tuple[str, ...]):
    with pytest.raises(InputError, match=r"^config\.mask\.table=.*: the last line must hold for every member, such as 'any: consistent'"):
        parse_table(lines)


def test_lines_that_are_never_read_are_refused():
    with pytest.raises(InputError, match=r"^config\.mask\.table\[1\]='any: full': holds for every member, so later lines are never read"):
        parse_table(("sensor=same: full", "any: full", "gap_days<=3: full", ANY))
