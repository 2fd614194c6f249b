"""The server's own page: a form as the task asks for it, and the threads of what it starts, drawn as they come.

It asks over `/v1/completions` as any client does. It loads nothing but its three files, and runs no script but its own;
what a model wrote is shown as text. None of the files holds a secret, so they need no key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from apr.form import draw, example, fill, form_of
from apr.policy import Policy
from apr.report.timeline import STYLE
from apr.task import Asks, Form
from apr.threads.causes import end_of
from apr.threads.events import CloseReason
from apr.threads.marks import SIGNS

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FIELD = """<label{wide}>{name}
<input name="field" value="{value}" placeholder="{example}" title="{says}" size="{size}" required
autocomplete="off" spellcheck="false"></label>"""
_BUDGET = """<label>budget <input name="budget" type="number" min="0" step="1" placeholder="free" list="budgets"
title="{unit}; empty: the model's choice"><datalist id="budgets">{choices}</datalist></label>"""
_JOIN = """<label>join <select name="join"><option value="all">all children</option>
<option value="first">first solution</option></select></label>"""
_KIND = """<a href="?kind={name}">{name}: {says}</a>"""
_WIDE = 40
"""Characters from which on a field takes a line."""


def page_routes(policy: Policy, model: str) -> list[Route]:
    """The page at `/`, and its files."""
    script = _file("page.js")
    style = STYLE + _file("page.css")

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(policy, model, request.query_params.get("kind")), headers=_HEADERS)

    async def page_css(request: Request) -> Response:
        return Response(style, headers=_HEADERS, media_type="text/css")

    async def page_js(request: Request) -> Response:
        return Response(script, headers=_HEADERS, media_type="text/javascript")

    return [Route("/", page), Route("/page.css", page_css), Route("/page.js", page_js)]


def _file(name: str) -> str:
    return (resources.files("apr.serving") / name).read_text(encoding="utf-8")


def _page(policy: Policy, model: str, kind: str | None) -> str:
    form = form_of(policy.task)
    kinds = form.kinds if isinstance(policy.task, Asks) else {}
    texts = fill(policy.task, draw(policy.task, kind)) if kind is not None and kind in kinds else example(policy.task)
    threads = policy.method == "apr"
    return Template(_file("page.html")).substitute(
        model=escape(model),
        task=escape(policy.task.name),
        rule=escape(form.rule),
        fields="\n".join(_fields(form, texts)),
        budget=_budget(form) if len(form.budgets) > 1 else "",
        join=_JOIN if threads else "",
        kinds=" ".join(_KIND.format(name=escape(name), says=escape(drawn.says)) for name, drawn in kinds.items()),
        ends=_data({reason: end_of(reason) for reason in get_args(CloseReason)}),
        signs=_data({mark: sign.sign for mark, sign in SIGNS.items()}),
    )


def _fields(form: Form, texts: tuple[str, ...]) -> list[str]:
    return [
        _FIELD.format(
            name=escape(field.name),
            value=escape(text),
            example=escape(field.example),
            says=escape(field.says),
            size=field.width or _WIDE,
            wide=' class="wide"' if field.width is None or field.width >= _WIDE else "",
        )
        for field, text in zip(form.fields, texts, strict=True)
    ]


def _budget(form: Form) -> str:
    choices = "".join(f'<option value="{budget}">' for budget in form.budgets if budget is not None)
    return _BUDGET.format(unit=escape(form.unit), choices=choices)


def _data(values: Mapping[str, Any]) -> str:
    """As a data attribute holds it."""
    return escape(json.dumps(values))
