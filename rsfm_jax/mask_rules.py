"""The table that gives each member of a set its masking policy: lines of text, the first that holds wins.

    acquisition=same: consistent
    sensor=same and gap_days<=3: complementary
    gsd_ratio>30: full
    any: consistent

A line is ``condition and condition ...: policy``. A condition compares a relation between the member and the anchor:

    acquisition=same|other   slots of one scene, or of two (slots without a letter are scenes of their own)
    sensor=same|other        sensor names
    gap_days<=x, gap_days>x  days between the two dates; neither holds when a date is unknown
    gsd_ratio<=x, >x         the coarser GSD over the finer
    overlap<=x, >x           share of the member's ground that lies in the anchor's chip
    any                      always; the last line must be this one

Knows nothing of arrays: `rsfm_jax.objectives.masking` evaluates the relations.
"""

import dataclasses
import re

from rsfm_jax.errors import InputError, nearest

POLICIES = ("consistent", "independent", "complementary", "full")
NAMED_RELATIONS = ("acquisition", "sensor")
MEASURED_RELATIONS = ("gap_days", "gsd_ratio", "overlap")
_CONDITION = re.compile(r"(\w+)\s*(<=|>|=)\s*(\S+)")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One comparison.

    Attributes:
      relation: One of `NAMED_RELATIONS` or `MEASURED_RELATIONS`.
      operator: ``"="``, ``"<="`` or ``">"``.
      value: ``"same"`` or ``"other"`` for a named relation, else a number.
    """

    relation: str
    operator: str
    value: str | float


@dataclasses.dataclass(frozen=True)
class Rule:
    """A line of the table: the policy of members for which all conditions hold."""

    conditions: tuple[Condition, ...]
    policy: str


def parse_table(lines: tuple[str, ...]) -> tuple[Rule, ...]:
    """Reads a table.

    Args:
      lines: Its lines, in order.

    Returns:
      Its rules, in order; the last one has no condition.

    Raises:
      InputError: names the line, what is wrong in it and what would be right.
    """
    rules = tuple(_parse_rule(f"config.mask.table[{i}]={line!r}", line) for i, line in enumerate(lines))
    if not rules or rules[-1].conditions:
        raise InputError(f"config.mask.table={lines!r}: the last line must hold for every member, such as 'any: consistent'")
    for i, rule in enumerate(rules[:-1]):
        if not rule.conditions:
            raise InputError(f"config.mask.table[{i}]={lines[i]!r}: holds for every member, so later lines are never read; put it last")
    return rules


def _parse_rule(where: str, line: str) -> Rule:
    left, colon, policy = (part.strip() for part in line.partition(":"))
    if not colon:
        raise InputError(f"{where}: must read 'conditions: policy', such as 'sensor=same: independent'")
    if policy not in POLICIES:
        raise InputError(f"{where}: there is no policy {policy!r} (there are {', '.join(POLICIES)}){nearest(policy, POLICIES)}")
    if left == "any":
        return Rule((), policy)
    return Rule(tuple(_parse_condition(where, text.strip()) for text in left.split(" and ")), policy)


def _parse_condition(where: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    relations = NAMED_RELATIONS + MEASURED_RELATIONS
    if match is None:
        raise InputError(
            f"{where}: {text!r} is no condition; write 'any', 'sensor=same' or 'gap_days<=30' (relations: {', '.join(relations)})"
        )
    relation, operator, value = match.groups()
    if relation not in relations:
        raise InputError(f"{where}: there is no relation {relation!r} (there are {', '.join(relations)}){nearest(relation, relations)}")
    if relation in NAMED_RELATIONS:
        if operator != "=" or value not in ("same", "other"):
            raise InputError(f"{where}: {relation} must be compared as '{relation}=same' or '{relation}=other'")
        return Condition(relation, operator, value)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if operator == "=" or not number >= 0:
        raise InputError(f"{where}: {relation} must be compared with a number by <= or >, such as '{relation}<=2'")
    return Condition(relation, operator, number)
