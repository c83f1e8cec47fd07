"""What every HTML page of ours shares: one file with its style, plots and script inside, and no request to any host."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from loralaw._version import __version__


def render_page(template: str, figures: dict[str, Any], **values: Any) -> str:
    """A page as text.

    Args:
        template: file of this room that extends `layout.html.j2`.
        figures: what `report.js` draws, as plain JSON.
        values: what the template shows; every text is escaped.
    """
    scripts = [get_plotlyjs().replace("\r", ""), _own("report.js")]
    environment = Environment(
        loader=FunctionLoader(_own), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(template).render(
        version=__version__,
        written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        policy=_policy(scripts),
        style=Markup(_own("report.css")),
        plotly=Markup(scripts[0]),
        script=Markup(scripts[1]),
        data=Markup(script_json(figures)),
        **values,
    )
    return page.encode("utf-8", "replace").decode()  # a name of a file may hold bytes that are no text


def script_json(value: Any) -> str:
    """JSON that is safe inside a `<script>` element: no `<`, `>`, `&` and no line separators of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(scripts: list[str]) -> str:
    """A content security policy: nothing is fetched from anywhere, and no script runs but our own two."""
    hashed = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _own(name: str) -> str:
    return (files("loralaw.report") / name).read_text(encoding="utf-8")
