"""Pieces of reports as HTML: no script, nothing from elsewhere, every text of the data escaped."""

import base64
from collections.abc import Sequence
from html import escape

MAX_CHARS = 600
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1f2933}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:.5rem 0;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;border-bottom:1px solid #e4e7eb;text-align:left;vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}pre{white-space:pre-wrap;margin:0;font-size:.85rem}
.better{color:#2e7d4f}.worse,.off{color:#b23b3b}.equal{color:#2563a8}.cannot{color:#8a6d1a}
.off{font-weight:bold}.few{color:#7b8794}img{max-width:100%;height:auto}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def whole(title: str, body: str) -> str:
    """Return a whole document around `body`, which is HTML already."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, classes: Sequence[str] = ()) -> str:
    """Return a table of texts; `classes` has one for each row."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    lines = "".join(
        f'<tr class="{escape(classes[place] if classes else "")}">'
        + "".join(f'<td class="n">{escape(cell)}</td>' for cell in row)
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return f"<table><tr>{top}</tr>{lines}</table>"


def paragraph(text: str) -> str:
    """Return a text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def cut(text: str) -> str:
    """Return a text, or its beginning where it is long."""
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}… ({len(text)} characters)"


def picture(kind: str, subject: object, *, alt: str, **options: object) -> str:
    """Return one of `training.evaluation.plots` as an image. Without matplotlib it says so."""
    from training.evaluation import plots  # noqa: PLC0415 - it is optional

    try:
        drawn: bytes = getattr(plots, kind)(subject, **options)
    except ImportError:
        return '<p class="few">No plot: matplotlib is not installed.</p>'
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(drawn).decode()}">'
