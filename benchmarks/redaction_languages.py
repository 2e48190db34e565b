"""Generated resumes in twelve languages, each with its personal data and with prose that must stay.

Most of the names are on no list of the recognisers. Telephone numbers have the forms of their country, with and without
a label; dates of birth, postal addresses and identity numbers likewise. Some cases are heads, some are form fields
("Last name" over or beside its value), some have footers, some are tables.

Does not belong here: measuring (``redaction_accuracy``).
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.redaction_cases import Case
from data.redaction.placeholders import PiiType

_DOMAINS = ("example.com", "firma.de", "mail-post.co.uk", "poczta.pl", "ya.ru", "qq.com")
LAYOUTS = ("head", "labels", "fields", "footer", "table", "split")
_FILE = Path(__file__).parent / "redaction_languages.toml"


@cache
def languages() -> dict[str, dict[str, Any]]:
    """Material by language: names, labels, forms of numbers, addresses, prose."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def make_language_cases(count: int, *, seed: int = 0) -> list[Case]:
    """Seeded cases, cycling through languages and layouts."""
    draw = random.Random(seed)
    names = list(languages())
    cases = []
    for number in range(count):
        language, layout = names[number % len(names)], LAYOUTS[number // len(names) % len(LAYOUTS)]
        cases.append(_Writer(draw, language).case(layout))
    return cases


def negative_texts() -> dict[str, list[str]]:
    """Sentences without personal data, by language."""
    return {name: list(material["prose"]) for name, material in languages().items()}


class _Writer:
    """Writes one case in one language."""

    def __init__(self, draw: random.Random, language: str) -> None:
        self.draw, self.language, self.of = draw, language, languages()[language]
        self.personal: list[tuple[PiiType, str]] = []

    def case(self, layout: str) -> Case:
        """A case in one of :data:`LAYOUTS`."""
        builders: dict[str, Callable[[], str]] = {
            "head": self._head, "labels": self._labels, "fields": self._fields,
            "footer": self._footer, "table": self._table, "split": self._split,
        }  # fmt: skip
        decoys = self.draw.sample(self.of["prose"], 2)
        text = builders[layout]()
        return Case(f"{self.language}-{layout}", f"{text}\n\n{decoys[0]}\n{decoys[1]}", self.personal, decoys)

    # --- layouts ------------------------------------------------------------------------------------------------------

    def _head(self) -> str:
        shown = self._name()
        shown = shown.upper() if self.draw.random() < 0.25 else shown
        lines = [self._keep("name", shown), self.draw.choice(self.of["occupations"])]
        lines += [
            f"{self._email()}{self.draw.choice((' | ', ' · ', ', '))}{self._phone(labelled=False)}",
            self._address(),
        ]
        return "\n".join(lines)

    def _labels(self) -> str:
        first, last = self._first(), self._last()
        mark = self.of.get("colon", ": ")
        return "\n".join(
            [
                f"{self.of['first_label']}{mark}{self._keep('name', first)}",
                f"{self.of['last_label']}{mark}{self._keep('name', last)}",
                f"{self._label('birth_labels')}{mark}{self._birth_date()}",
                f"{self._label('address_labels')}{mark}{self._address()}",
                f"{self._label('phone_labels')}{mark}{self._phone(labelled=True)}",
                self._id_number(),
            ]
        )

    def _fields(self) -> str:
        """Form fields, as a reader of PDFs gives them: the label above or before the value."""
        between = self.draw.choice(("\n", self.of.get("colon", ": ")))
        return "\n".join(
            [
                f"{self.of['last_label']}{between}{self._keep('name', self._last())}",
                f"{self._label('birth_labels')}{between}{self._birth_date()}",
                f"{self._label('phone_labels')}{between}{self._phone(labelled=True)}",
                f"{self._label('address_labels')}{between}{self._address()}",
                self._handle(),
            ]
        )

    def _footer(self) -> str:
        name = self._keep("name", self._name())
        head = f"{name}\n{self.draw.choice(self.of['occupations'])}\n{self._email()}"
        return f"{head}\n\n{self.of['prose'][0]}\n\n{name} | {self._phone(labelled=False)} | 2/3\n{self._handle()}"

    def _table(self) -> str:
        rows = [
            f"{self.of['name_label']} | {self._keep('name', self._name())}",
            f"{self._label('birth_labels')} | {self._birth_date()}",
            f"{self._label('phone_labels')} | {self._phone(labelled=True)}",
            f"E-mail | {self._email()}",
        ]
        return "\n".join(rows) + f"\n{self._id_number()}"

    def _split(self) -> str:
        """A name over two lines or letter by letter, and an address over two."""
        first, last = self._first(), self._last()
        if self.of.get("order") == "last":
            head = self._keep("name", f"{last}{first}")
        elif self.draw.random() < 0.5:
            head = f"{self._keep('name', first)}\n{self._keep('name', last)}"
        else:
            head = self._keep("name", " ".join(f"{first} {last}".upper().replace(" ", "")))
        lines = [head, self._email(), self._address(between="\n"), self._phone(labelled=False)]
        return "\n".join(lines)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _keep(self, type_: PiiType, value: str) -> str:
        self.personal.append((type_, value))
        return value

    def _first(self) -> str:
        return str(self.draw.choice(self.of["first"]))

    def _last(self) -> str:
        return str(self.draw.choice(self.of["last"]))

    def _name(self) -> str:
        pair = (self._last(), self._first()) if self.of.get("order") == "last" else (self._first(), self._last())
        return str(self.of.get("joint", " ")).join(pair)

    def _email(self) -> str:
        local = f"{self.draw.choice(('anna', 'j.k', 'info', 'x_y', 'kim'))}{self.draw.randint(1, 999)}"
        return self._keep(
            "email",
            f"{local}@{self.draw.choice(_DOMAINS)}",
        )

    def _label(self, kind: str) -> str:
        return str(self.draw.choice(self.of[kind]))

    def _phone(self, *, labelled: bool) -> str:
        forms = [*self.of["phones"], *(self.of["phones_with_label"] if labelled else [])]
        return self._keep("phone", _filled(self.draw, self.draw.choice(forms)))

    def _birth_date(self) -> str:
        day, month, year = self.draw.randint(1, 28), self.draw.randint(1, 12), self.draw.randint(1950, 2004)
        form = self.draw.choice(self.of["dates"])
        months = self.of.get("months", ["May"])
        shown = form.format(
            d=day, dd=f"{day:02d}", m=month, mm=f"{month:02d}", y=year, month=months[(month - 1) % len(months)]
        )
        return self._keep("birth_date", shown)

    def _address(self, *, between: str = ", ") -> str:
        street, _, town = _filled(self.draw, self.draw.choice(self.of["addresses"])).partition("|")
        self._keep("address", street)
        return f"{street}{between}{town}" if town else street

    def _handle(self) -> str:
        user = self.draw.choice(("rosa", "k.lind", "m_berg", "jo-wei")) + self.draw.choice(
            ("85", ".dev", "-1234", "_x")
        )
        service, mark = self.draw.choice(("Skype", "LinkedIn", "GitHub", "Telegram")), self.draw.choice((": ", ": @"))
        return f"{service}{mark}{self._keep('handle', user)}"

    def _id_number(self) -> str:
        label, number = self.draw.choice(self.of["id_numbers"])
        return f"{label}{self._keep('id_number', number)}"


def _filled(draw: random.Random, pattern: str) -> str:
    """Replace ``#`` by a digit, and ``N`` by one from 2 to 9."""
    return "".join(
        str(draw.randint(2, 9)) if char == "N" else str(draw.randint(0, 9)) if char == "#" else char for char in pattern
    )
