"""An interval as a line of text."""


def bar(low: float, high: float, estimate: float | None, *, span: float, width: int = 31) -> str:
    """Return an interval on the axis from -`span` to `span`, with a mark at zero and one at the estimate.

    Ends that leave the axis are drawn as arrows.
    """
    cells = ["·"] * width
    first, last = _cell(low, span, width), _cell(high, span, width)
    for place in range(max(first, 0), min(last, width - 1) + 1):
        cells[place] = "─"
    cells[width // 2] = "┼" if first <= width // 2 <= last else "│"
    if first < 0:
        cells[0] = "◀"
    if last >= width:
        cells[-1] = "▶"
    if estimate is not None and 0 <= (place := _cell(estimate, span, width)) < width:
        cells[place] = "●"
    return "".join(cells)


def _cell(value: float, span: float, width: int) -> int:
    """Return the place of a value; -1 and `width` stand for beyond the axis."""
    if value < -span:
        return -1
    if value > span:
        return width
    return round((value + span) / (2 * span) * (width - 1))
