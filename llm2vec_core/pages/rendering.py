"""Rendering of templates as HTML or Markdown, with text from data escaped."""

from __future__ import annotations

import re
from typing import Literal

import jinja2
from markupsafe import Markup

PageForm = Literal["html", "markdown"]

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~]|^[-+#>=]|(?<=^\d)[.)])")


def render_page(package: str, template: str, form: PageForm, /, **values: object) -> str:
    """Render a template that builds its page with the macros of one form.

    Args:
        package: Package that contains the template.
        template: File name of the template; it starts with ``{% import macros as page %}``.
        form: ``html`` or ``markdown``; decides the macros and how text is escaped.
        **values: Variables of the template. An unknown name in a template is an error.

    Returns:
        A self-contained HTML document, or CommonMark with tables.
    """
    environment = template_environment(package, "llm2vec_core.pages", autoescape=form == "html")
    environment.filters |= {"breakable": _breakable, "plain": _escape_markdown}
    text = environment.get_template(template).render(macros=f"{form}.j2", **values)
    if form == "html":
        return text.strip() + "\n"
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE)).strip() + "\n"


def template_environment(*packages: str, autoescape: bool = False) -> jinja2.Environment:
    """The templates in some packages; an unknown name in a template is an error.

    Args:
        *packages: Packages that contain templates; the first one with a template wins.
        autoescape: Whether values are escaped for HTML.
    """
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, package_path="") for name in packages]),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _escape_markdown(text: object) -> str:
    """Text on one line that CommonMark prints literally, without markup or HTML."""
    line = " ".join(str(text).split())
    return _MARKDOWN_SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def _breakable(name: str) -> Markup:
    """A name with break opportunities for narrow columns."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_+:/,])(?=[^\s\d])", "\0", name).split("\0")
    return Markup("<wbr>").join(parts)  # join escapes the parts
