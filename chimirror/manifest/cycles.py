"""Finds the nodes of a graph that lead back to themselves, in linear time.

Follows Kosaraju: the nodes of a cycle reach each other in both directions. Without
recursion, because a schema decides about the depth. Knows nothing of schemas.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    Edges = Mapping[Any, Collection[Any]]


def nodes_on_cycles(edges: Edges) -> set[Any]:
    """Return the nodes on cycles.

    Args:
        edges: The targets of each node. Every target is a node.
    """
    sources: dict[Any, list[Any]] = {node: [] for node in edges}
    for node, targets in edges.items():
        for target in targets:
            sources[target].append(node)
    found: set[Any] = set()
    seen: set[Any] = set()
    for node in reversed(_finished(edges)):
        component = _reach(node, sources, seen)
        if len(component) > 1 or node in edges[node]:
            found.update(component)
    return found


def _finished(edges: Edges) -> list[Any]:
    """Return the nodes, each after the nodes that it leads to, as far as possible."""
    order: list[Any] = []
    seen: set[Any] = set()
    for root in edges:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(edges[root]))]
        while stack:
            node, targets = stack[-1]
            target = next((each for each in targets if each not in seen), None)
            if target is None:
                stack.pop()
                order.append(node)
            else:
                seen.add(target)
                stack.append((target, iter(edges[target])))
    return order


def _reach(start: Any, edges: Edges, seen: set[Any]) -> list[Any]:
    """Return the unseen nodes that a node leads to, itself included."""
    if start in seen:
        return []
    seen.add(start)
    found, waiting = [start], [start]
    while waiting:
        for target in edges[waiting.pop()]:
            if target not in seen:
                seen.add(target)
                found.append(target)
                waiting.append(target)
    return found
