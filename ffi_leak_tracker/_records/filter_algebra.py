"""Simplifies a conjunction to the normal form of the free ortholattice.

An ortholattice has all laws of Boolean algebra except distributivity. Two
expressions that are equal by these laws have the same normal form. It is the
smallest of them and needs no exponential expansion.

Nodes may be any hashable objects. ``parts(node)`` returns how a node is built;
``negate(node)`` returns its complement. A disjunction is simplified as the
complement of a conjunction (De Morgan).

Source: Whitman, "Free Lattices" (1941), for the order and the form; Bruns,
"Free Ortholattices" (1976), for complements; as used by Guilloud et al.,
"Formula Normalizations in Verification" (CAV 2023).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Node = Any
    Parts = Callable[[Node], tuple[str, frozenset[Node]]]

ALL = "all of"  # the form that parts() returns for a conjunction
ANY = "any of"  # for a disjunction
ATOM = "atom"  # for any other node, with no operands


def simplify(
    operands: Iterable[Node],
    parts: Parts,
    negate: Callable[[Node], Node],
) -> frozenset[Node] | None:
    """Return the operands of the simplified conjunction; None if it is false.

    Args:
        operands: nodes in normal form.
    """
    known = _Known(parts, operands)
    if any(known.implies(negate(one)) for one in known.nodes):
        return None
    while True:
        stronger = known.narrowed()
        if stronger is None:
            return known.needed()
        known = stronger


class _Known:
    """A conjunction of nodes, which decides what follows from it."""

    def __init__(
        self,
        parts: Parts,
        operands: Iterable[Node],
    ) -> None:
        self.parts = parts
        nodes: set[Node] = set()
        for operand in operands:
            form, inner = parts(operand)
            nodes.update(inner if form is ALL else [operand])
        self.nodes = nodes
        self.cases = [one for one in nodes if parts(one)[0] is ANY]

    def implies(self, goal: Node) -> bool:
        """Return whether the goal follows from the nodes."""
        if goal in self.nodes:
            return True
        form, inner = self.parts(goal)
        if form is ALL:
            return all(self.implies(one) for one in inner)
        if form is ANY and any(self.implies(one) for one in inner):
            return True
        return any(self._settles(case, goal) for case in self.cases)

    def _settles(self, case: Node, goal: Node) -> bool:
        """Return whether each operand of a disjunction implies the goal."""
        _, inner = self.parts(case)
        return all(_Known(self.parts, [one]).implies(goal) for one in inner)

    def narrowed(self) -> _Known | None:
        """Return the conjunction with one disjunction replaced by an operand.

        The operand follows from the other nodes. None if there is none.
        """
        for case in self.cases:
            for one in self.parts(case)[1]:
                if self.implies(one):
                    return _Known(self.parts, (self.nodes - {case}) | {one})
        return None

    def needed(self) -> frozenset[Node]:
        """Return the nodes that do not follow from another node."""
        return frozenset(
            goal
            for goal in self.nodes
            if not any(
                case != goal and self._settles(case, goal)
                for case in self.cases
            )
        )
