"""A lineage as a tree of lines for the terminal. Pure."""

from collections.abc import Iterator

from heliostat.versions.lineage import Lineage

MOST_SOURCES = 10


def tree_lines(lineage: Lineage, start: str, down: bool = False) -> Iterator[str]:
    """The node, below it what it was made from (or what was made of it), and so on; a node that was there
    already is named only, and of many source files the first ones."""
    yield _line(lineage, start)
    yield from _branches(lineage, start, down, "", {start})
    if not down:
        for report in lineage.reports_on(start):
            yield f"report on it: {report.id}  {report.about}"


def _branches(lineage: Lineage, here: str, down: bool, indent: str, seen: set[str]) -> Iterator[str]:
    ids = list((lineage.below if down else lineage.above).get(here, ()))
    sources = [each for each in ids if lineage.nodes[each].kind == "source"]
    hidden = set(sources[MOST_SOURCES:])
    shown = [each for each in ids if each not in hidden]
    for number, there in enumerate(shown):
        last = number == len(shown) - 1 and not hidden
        mark, further = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if there in seen:
            yield f"{indent}{mark}{lineage.nodes[there].kind} {there}  (see above)"
            continue
        seen.add(there)
        yield indent + mark + _line(lineage, there)
        yield from _branches(lineage, there, down, indent + further, seen)
    if hidden:
        yield f"{indent}└─ and {len(hidden)} source files more; --json names all"


def _line(lineage: Lineage, node_id: str) -> str:
    node = lineage.nodes[node_id]
    name = node_id.removeprefix(f"{node.kind}:")
    return f"{node.kind} {name}  {node.about}"
