"""Generated texts with personal data in eight formats, mostly English.

Every case lists its personal data and contains decoys that must stay: versions, salaries, years, order numbers, C#.
Half of the names are on the repository's lists, half are composed of syllables and on none.

Does not belong here: other languages (``redaction_languages``), measuring (``redaction_accuracy``).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from data.redaction.names import name_groups
from data.redaction.placeholders import PiiType

FORMATS = ("header", "prose", "table", "json", "ocr", "international", "signature", "key_value")
DECOYS = (
    "C#", "C++", "ASP.NET 4.8", "Node.js 18.2.0", "24/7", "2015-2019", "06/2011 - 12/2012", "45,000-55,000",
    "2021-03-04", "order 4815162342", "version 10.0.19045", "$120,000", "99.99%", "3.5 years", "192.168.10.20",
    "ISO 9001:2015", "B2B", "May 2019", "Python 3.11", "T-SQL", "10 000", "Mark scheme", "CI/CD", "invoice 20231114",
    "Java 8 to 17", "PRINCE2",
)  # fmt: skip
_SYLLABLES = ("bal", "ko", "mi", "ra", "tel", "vo", "sen", "lu", "dor", "qui", "zan", "pe", "hul", "gri", "wo", "nex")
_DOMAINS = ("example.com", "mail-post.co.uk", "inbox.org", "uni-sample.edu", "firma.de", "web.io", "lettre.fr")
_STREETS = ("High Street", "Elm Road", "Kingsway Avenue", "Mill Lane", "Oak Drive", "Park Boulevard", "Church Close")
_TOWNS = (
    ("Leeds", "LS1 4AB"),
    ("Bristol", "BS8 1TH"),
    ("Austin", "TX 78701"),
    ("Albany", "NY 12207"),
    ("York", "YO1 7HH"),
)
_MONTHS = ("January", "February", "March", "April", "June", "July", "August", "September", "October", "December")


@dataclass
class Case:
    """A text, its personal data, and its decoys.

    Attributes:
        format: One of :data:`FORMATS`.
        text: The text.
        personal: Type and value of everything personal.
        decoys: Values that must stay.
    """

    format: str
    text: str
    personal: list[tuple[PiiType, str]] = field(default_factory=list)
    decoys: list[str] = field(default_factory=list)


def make_cases(count: int, *, seed: int = 0) -> list[Case]:
    """Seeded cases, cycling through the formats."""
    draw = random.Random(seed)
    return [_BUILDERS[FORMATS[number % len(FORMATS)]](draw) for number in range(count)]


# --- parts of a case --------------------------------------------------------------------------------------------------


def _name(draw: random.Random) -> str:
    if draw.random() < 0.5:
        group = draw.choice(list(name_groups().values()))
        return f"{draw.choice(group.female + group.male)} {draw.choice(group.surnames)}"
    return " ".join("".join(draw.sample(_SYLLABLES, 2)).capitalize() for _ in range(2))


def _email(draw: random.Random, name: str) -> str:
    local = draw.choice((".", "_", "")).join(re.sub(r"[^a-z ]", "", name.lower()).split())
    return f"{local}{draw.choice(('', str(draw.randint(1, 99)), '+cv'))}@{draw.choice(_DOMAINS)}"


def _phone(draw: random.Random, *, international: bool = False) -> str:
    national = ("(N##) N##-####", "N##-N##-####", "N##.N##.####", "07911 ######", "020 79## ####", "0161 4## ####")
    abroad = (
        "+44 79## ######", "+44 (0)20 79## ####", "+1 N## N## ####", "+1-N##-N##-####", "+49 30 9#####",
        "+33 1 4# ## ## ##", "+91 98### #####", "+353 87 ### ####", "0044 79## ######", "+61 4## ### ###",
        "+34 6## ### ###", "+81 90-####-####",
    )  # fmt: skip
    pattern = draw.choice(abroad if international else national)
    return "".join(
        str(draw.randint(2, 9)) if char == "N" else str(draw.randint(0, 9)) if char == "#" else char for char in pattern
    )


def _url(draw: random.Random, name: str) -> str:
    handle = re.sub(r"[^a-z]", "", name.lower()) or "someone"
    return draw.choice(
        (
            f"https://www.{handle}.com", f"http://{handle}.dev/cv?lang=en", f"linkedin.com/in/{handle}",
            f"www.{handle}.org", f"github.com/{handle}", f"https://example.org/people/{handle}.html", f"{handle}.me",
        )
    )  # fmt: skip


def _birth_date(draw: random.Random) -> str:
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1950, 2004)
    return draw.choice(
        (
            f"{day:02d}/{month:02d}/{year}", f"{year}-{month:02d}-{day:02d}", f"{day} {draw.choice(_MONTHS)} {year}",
            f"{draw.choice(_MONTHS)} {day}, {year}", f"{day}.{month}.{year}",
        )
    )  # fmt: skip


def _address(draw: random.Random) -> str:
    town, code = draw.choice(_TOWNS)
    return f"{draw.randint(1, 999)} {draw.choice(_STREETS)}, {town}, {code}"


def _decoys(draw: random.Random, count: int = 3) -> list[str]:
    return draw.sample(DECOYS, count)


# --- formats ----------------------------------------------------------------------------------------------------------


def _header(draw: random.Random) -> Case:
    name = _name(draw)
    email, phone, url, address = _email(draw, name), _phone(draw), _url(draw, name), _address(draw)
    shown = name.upper() if draw.random() < 0.3 else name
    decoys = _decoys(draw)
    text = f"{shown}\n{address}\n{email} | {phone} | {url}\n\nPROFILE\nWorked with {', '.join(decoys)}."
    personal: list[tuple[PiiType, str]] = [
        ("name", shown), ("address", address), ("email", email), ("phone", phone), ("url", url),
    ]  # fmt: skip
    return Case("header", text, personal, decoys)


def _prose(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    email, phone, url = _email(draw, name), _phone(draw), _url(draw, name)
    text = (
        f"In my last post I looked after {decoys[0]} and {decoys[1]} for {decoys[2]}. You reach me under {email}, or "
        f"call {phone} in the evening. My work is shown on {url}. Mr {name} will gladly tell you more."
    )
    return Case("prose", text, [("email", email), ("phone", phone), ("url", url), ("name", name)], decoys)


def _table(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    email, phone, born = _email(draw, name), _phone(draw), _birth_date(draw)
    text = f"Name | {name}\nDate of birth | {born}\nE-mail | {email}\nMobile | {phone}\nSkills | {' | '.join(decoys)}"
    return Case("table", text, [("name", name), ("birth_date", born), ("email", email), ("phone", phone)], decoys)


def _json(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    email, url, born, phone = _email(draw, name), _url(draw, name), _birth_date(draw), _phone(draw, international=True)
    row = {"full_name": name, "email": email, "phone": phone, "website": url, "dob": born, "skills": decoys}
    personal: list[tuple[PiiType, str]] = [
        ("name", name), ("email", email), ("phone", phone), ("url", url), ("birth_date", born),
    ]  # fmt: skip
    return Case("json", json.dumps(row), personal, decoys)


def _ocr(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    email, phone = _email(draw, name), _phone(draw)
    spaced_email = email.replace("@", draw.choice((" @ ", " (at) ", "@ "))).replace(".", draw.choice((" . ", ".")))
    if not spaced_email.endswith((".com", ". com", "org", "edu", "uk", "de", "io", "fr")):
        spaced_email = email
    spaced_phone = phone.replace(" ", "  ").replace("-", " - ")
    url = f"www . {re.sub(r'[^a-z]', '', name.lower()) or 'someone'} . com"
    text = f"Contact :  {spaced_email}   Tel :  {spaced_phone}\n{url}\nSkills :  {' ;  '.join(decoys)}"
    return Case("ocr", text, [("email", spaced_email), ("phone", spaced_phone), ("url", url)], decoys)


def _international(draw: random.Random) -> Case:
    decoys = _decoys(draw)
    first, second = _phone(draw, international=True), _phone(draw, international=True)
    street = f"{draw.choice(('Hauptstraße', 'Lindenallee', 'Bergweg'))} {draw.randint(1, 99)}, 10115 Berlin"
    text = f"{street}\n{first} / {second}\nBerufserfahrung mit {', '.join(decoys)}"
    return Case("international", text, [("phone", first), ("phone", second), ("address", street)], decoys)


def _signature(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    email, phone, url = _email(draw, name), _phone(draw), _url(draw, name)
    text = f"... which is why I know {decoys[0]}, {decoys[1]} and {decoys[2]}.\n\n-- \n"
    text += f"Name: {name}\nT: {phone}\nE: {email}\nW: {url}"
    return Case("signature", text, [("name", name), ("phone", phone), ("email", email), ("url", url)], decoys)


def _key_value(draw: random.Random) -> Case:
    name, decoys = _name(draw), _decoys(draw)
    born, address, email = _birth_date(draw), _address(draw), _email(draw, name)
    text = f"Full name: {name}; DOB: {born}; Address: {address}; Email={email}; "
    text += f"Notes: {', '.join(decoys)}; Dr. {name} signed."
    return Case(
        "key_value", text, [("name", name), ("birth_date", born), ("address", address), ("email", email)], decoys
    )


_BUILDERS: dict[str, Callable[[random.Random], Case]] = {
    "header": _header,
    "prose": _prose,
    "table": _table,
    "json": _json,
    "ocr": _ocr,
    "international": _international,
    "signature": _signature,
    "key_value": _key_value,
}
