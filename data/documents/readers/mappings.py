"""Known record formats: the paths of id, title, text and further fields of a posting or resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig, SourceFormat
from data.documents.readers.fields import text_at, values_at

SourceRecord = Mapping[str, object]


@dataclass(frozen=True)
class KnownFormat:
    """One known format.

    Attributes:
        records: Path to the records of a JSON file, or XML element name; None for one record per line or element.
        ids: Paths of the id, in order of preference.
        titles: Paths of the title, in order of preference.
        parts: Headings and paths of the text, in order. Some texts need no heading.
        further: Paths of further fields by name in the metadata; of several paths, the first with a value.
        signature: Groups of fields. A record with all fields of one group has this format.
        write: Renders the text, if paths are not sufficient.
        derive: Further fields that paths cannot reach.
    """

    records: str | None
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    further: Mapping[str, str | tuple[str, ...]]
    signature: tuple[tuple[str, ...], ...]
    write: Callable[[SourceRecord], str] | None = None
    derive: Callable[[SourceRecord], Mapping[str, object]] | None = None

    def apply(self, record: SourceRecord, config: SourceConfig, *, fallback_id: str) -> dict[str, object]:
        """Convert a record to a row with the source's names for id, title and text."""
        ids = [str(each) for path in self.ids for each in values_at(record, path) if isinstance(each, (str, int))]
        titles = [found for path in self.titles if (found := text_at(record, path))]
        text = self.write(record) if self.write is not None else _joined(record, self.parts)
        further = {name: _first(record, paths) for name, paths in self.further.items()}
        if self.derive is not None:
            further.update(self.derive(record))
        return {
            **{name: value for name, value in further.items() if value is not None},
            config.id_field: next((found for found in ids if found.strip()), fallback_id),
            config.title_field: titles[0] if titles else "",
            config.single_text_field or DEFAULT_TEXT_FIELDS[0]: text,
        }


def suggestion(columns: Iterable[str]) -> str | None:
    """Name of the known format that matches these fields; None if there is none."""
    present = set(columns)
    for name, known in KNOWN_FORMATS.items():
        if any(present.issuperset(group) for group in known.signature):
            return name
    return None


def _joined(record: SourceRecord, parts: Iterable[tuple[str, str]]) -> str:
    found = [(heading, text_at(record, path)) for heading, path in parts]
    return "\n\n".join(f"{heading}:\n{text}" if heading else text for heading, text in found if text)


def _first(record: object, paths: str | tuple[str, ...]) -> object:
    """Values at the first path that has some: one value, several as a list, or None."""
    for path in (paths,) if isinstance(paths, str) else paths:
        if values := [each for each in values_at(record, path) if each not in ("", [], {})]:
            return values[0] if len(values) == 1 else values
    return None


def _places(record: object, path: str, *parts: tuple[str, ...]) -> dict[str, object]:
    """Location, city, region and country of all places at a path.

    Args:
        record: The record.
        path: Path of the places.
        parts: Paths within a place for city, region and country, in order of preference.
    """
    places = [
        [next((t for p in paths if (t := text_at(each, p))), "") for paths in parts] for each in values_at(record, path)
    ]
    shown = dict.fromkeys(", ".join(dict.fromkeys(filter(None, place))) for place in places)
    found: dict[str, object] = {"location": "; ".join(filter(None, shown))}
    for name, values in zip(("city", "region", "country"), zip(*places, strict=True), strict=False):
        found[name] = ", ".join(dict.fromkeys(filter(None, values)))
    return {name: value for name, value in found.items() if value}


_ADDRESS = (
    ("address.addressLocality",),
    ("address.addressRegion.name", "address.addressRegion"),
    ("address.addressCountry.name", "address.addressCountry"),
)


def _jobposting_facets(record: SourceRecord) -> dict[str, object]:
    """Places and salary of a JobPosting, whose values may be texts, objects or lists."""
    found = _places(record, "jobLocation[]", *_ADDRESS)
    if not found:
        whole = [_line(record, path) for path in ("jobLocation[].address", "jobLocation[].name", "jobLocation[]")]
        whole.append(_line(record, "applicantLocationRequirements[].name"))
        found = {"location": next(filter(None, whole), None)}
    kinds = {text.upper() for text in values_at(record, "jobLocationType") if isinstance(text, str)}
    if "TELECOMMUTE" in kinds:
        found["remote"] = True
    stated = [_first(record, path) for path in ("baseSalary[0]", "baseSalary[0].value")]
    found["salary"] = next((each for each in stated if isinstance(each, str | int | float)), None)
    return {name: value for name, value in found.items() if value is not None}


def _greenhouse_facets(record: SourceRecord) -> dict[str, object]:
    """Salary of a posting, which Greenhouse states in cents."""
    ends = {"salary_min": "pay_input_ranges[0].min_cents", "salary_max": "pay_input_ranges[0].max_cents"}
    cents = {name: _first(record, path) for name, path in ends.items()}
    return {name: value / 100 for name, value in cents.items() if isinstance(value, int | float)}


def _workable_facets(record: SourceRecord) -> dict[str, object]:
    places = _places(record, "location", ("city",), ("region", "state"), ("country", "countryCode"))
    return places or _places(record, "locations[]", ("city",), ("region",), ("country", "countryCode"))


def _line(record: object, *paths: str, between: str = ", ") -> str:
    return between.join(found.replace("\n", ", ") for path in paths if (found := text_at(record, path)))


def _dates(record: object, start: str = "startDate", end: str = "endDate") -> str:
    dates = [text_at(record, start), text_at(record, end)]
    return f" ({' - '.join(dates).strip(' -')})" if any(dates) else ""


def _resume_text(record: SourceRecord) -> str:
    """A JSON Resume in print order: summary, then the sections with their entries."""
    blocks = [text_at(record, "basics.label"), text_at(record, "basics.summary")]
    sections = (
        ("Experience", "work", ("position", "name", "company")),
        ("Volunteering", "volunteer", ("position", "organization")),
        ("Projects", "projects", ("name",)),
        ("Education", "education", ("studyType", "area", "institution")),
        ("Certificates", "certificates", ("name", "issuer")),
        ("Awards", "awards", ("title", "awarder")),
        ("Publications", "publications", ("name", "publisher")),
        ("Skills", "skills", ("name", "level", "keywords[]")),
        ("Languages", "languages", ("language", "fluency")),
        ("Interests", "interests", ("name", "keywords[]")),
    )
    for heading, name, paths in sections:
        lines = []
        for entry in values_at(record, f"{name}[]"):
            details = [text_at(entry, path) for path in ("summary", "description", "highlights[]", "courses[]")]
            lines += [_line(entry, *paths) + _dates(entry), *details]
        shown = [line for line in lines if line.strip()]
        blocks.append("\n".join([f"{heading}:", *shown]) if shown else "")
    return "\n\n".join(block for block in blocks if block)


def _lever_text(record: SourceRecord) -> str:
    blocks = [text_at(record, "opening") or text_at(record, "description") or text_at(record, "descriptionPlain")]
    for each in values_at(record, "lists[]"):
        blocks.append(f"{text_at(each, 'text')}\n{text_at(each, 'content')}".strip())
    blocks.append(text_at(record, "additional") or text_at(record, "additionalPlain"))
    return _joined_blocks(blocks)


def _joined_blocks(blocks: list[str]) -> str:
    """Join blocks, each plain or HTML. With HTML the text as a whole is HTML, and headings keep their own lines."""
    is_html = any("</" in block for block in blocks)
    return ("<br><br>" if is_html else "\n\n").join(
        block.replace("\n", "<br>") if is_html and "</" not in block.split("\n")[0] else block
        for block in blocks
        if block
    )


def _hr_open_text(record: SourceRecord) -> str:
    """A position opening or a candidate of HR Open Standards in print order."""
    blocks = []
    for profile in values_at(record, "positionProfiles[]"):
        for each in values_at(profile, "positionFormattedDescriptions[]"):
            blocks.append(f"{text_at(each, 'title')}\n{text_at(each, 'content')}".strip())
        skills = _line(profile, "positionCompetencies[].competencyName")
        blocks.append(f"Skills:\n{skills}" if skills else "")
    for profile in values_at(record, "profiles[]"):
        blocks += [text_at(profile, "objective"), text_at(profile, "executiveSummary")]
        for heading, name, paths in _HR_OPEN_SECTIONS:
            lines = []
            for entry in values_at(profile, f"{name}[]"):
                lines.append(_line(entry, *paths) + _dates(entry, "start", "end"))
                lines += [text_at(entry, path) for path in _HR_OPEN_DETAILS]
            shown = [line for line in lines if line.strip()]
            blocks.append("\n".join([f"{heading}:", *shown]) if shown else "")
    return _joined_blocks(blocks)


_HR_OPEN_SECTIONS = (
    ("Experience", "employment", ("positionHistories[].title", "organization.name", "organization.legalId.value")),
    (
        "Education",
        "education",
        ("educationDegrees[].name", "educationLevelCodes[].name", "institution.name", "institution.legalId.value"),
    ),
    ("Certificates", "certifications", ("name", "issuingAuthority.name")),
    ("Licences", "licenses", ("name", "type.name", "issuingAuthority.name")),
    ("Skills", "qualifications", ("competencyName", "name")),
    ("Languages", "languages", ("name", "languageCode", "proficiency")),
    ("Publications", "publications", ("title", "name")),
)
_HR_OPEN_DETAILS = (
    "description", "descriptions[]", "positionHistories[].description", "positionHistories[].descriptions[]",
)  # fmt: skip


def _hr_open_facets(record: SourceRecord) -> dict[str, object]:
    """Place and salary, whose fields differ between positions and candidates."""
    parts = (("city",), ("countrySubdivisions[].value", "countrySubDivisions[].value"), ("countryCode", "country"))
    found = _places(record, "positionProfiles[].positionLocation[]", *parts)
    found = found or _places(record, "person.communication.address[0]", *parts)
    for pay in values_at(record, "positionProfiles[0].offeredRemunerationPackage.ranges[]"):
        kind = text_at(pay, "typeCode").casefold()
        for end in ("min", "max"):
            amount = _first(pay, f"{end}imumAmount.value")
            amount = _first(pay, "referenceAmount.value") if amount is None and end in kind else amount
            if amount is not None:
                found |= {f"salary_{end}": amount, "salary_unit": text_at(pay, "intervalCode")}
                found["salary_currency"] = _first(pay, ("referenceAmount.currency", f"{end}imumAmount.currency"))
    return found


KNOWN_FORMATS: dict[SourceFormat, KnownFormat] = {
    "json-resume": KnownFormat(
        records=None,
        ids=("id", "_id", "meta.id"),
        titles=("basics.label", "work[0].position"),
        parts=(),
        further={
            "name": "basics.name",
            "email": "basics.email",
            "phone": "basics.phone",
            "city": "basics.location.city",
            "region": "basics.location.region",
            "country": "basics.location.countryCode",
        },
        signature=(("basics", "work"), ("basics", "skills"), ("basics", "education")),
        write=_resume_text,
    ),
    "schema.org-jobposting": KnownFormat(
        records=None,
        ids=("identifier.value", "identifier", "@id", "url"),
        titles=("title", "name"),
        parts=(
            ("", "description"),
            ("Responsibilities", "responsibilities"),
            ("Qualifications", "qualifications"),
            ("Skills", "skills"),
            ("Experience", "experienceRequirements"),
            ("Education", "educationRequirements"),
            ("Benefits", "jobBenefits"),
        ),
        further={
            "company": "hiringOrganization.name",
            "employment_type": "employmentType",
            "category": ("occupationalCategory.name", "occupationalCategory", "industry"),
            "posted_at": "datePosted",
            "valid_through": "validThrough",
            "salary_currency": ("baseSalary[0].currency", "salaryCurrency"),
            "salary_min": ("baseSalary[0].value.minValue", "baseSalary[0].minValue", "baseSalary[0].value.value"),
            "salary_max": ("baseSalary[0].value.maxValue", "baseSalary[0].maxValue", "baseSalary[0].value.value"),
            "salary_unit": ("baseSalary[0].value.unitText", "baseSalary[0].unitText"),
            "location_type": "jobLocationType",
        },
        signature=(
            ("@type", "hiringOrganization"),
            ("datePosted", "hiringOrganization"),
            ("@type", "jobLocation"),
            ("@context", "@graph"),
            ("@type", "mainEntity"),
        ),
        derive=_jobposting_facets,
    ),
    "greenhouse": KnownFormat(
        records="jobs[]",
        ids=("id", "internal_job_id"),
        titles=("title",),
        parts=(("", "content"),),
        further={
            "location": ("location.name", "offices[].name"),
            "department": "departments[].name",
            "posted_at": "first_published",
            "valid_through": "application_deadline",
            "salary_currency": "pay_input_ranges[0].currency_type",
            "updated_at": "updated_at",
            "url": "absolute_url",
            "requisition": "requisition_id",
        },
        signature=(("internal_job_id", "content"), ("absolute_url", "content", "title")),
        derive=_greenhouse_facets,
    ),
    "lever": KnownFormat(
        records=None,
        ids=("id",),
        titles=("text",),
        parts=(),
        further={
            "location": ("categories.allLocations[]", "categories.location"),
            "country": "country",
            "employment_type": "categories.commitment",
            "team": "categories.team",
            "department": "categories.department",
            "workplace_type": "workplaceType",
            "salary_currency": "salaryRange.currency",
            "salary_min": "salaryRange.min",
            "salary_max": "salaryRange.max",
            "salary_unit": "salaryRange.interval",
            "posted_at": "createdAt",
            "url": "hostedUrl",
        },
        signature=(("categories", "lists"), ("hostedUrl", "categories")),
        write=_lever_text,
    ),
    "workable": KnownFormat(
        records="jobs[]",
        ids=("shortcode", "id", "code"),
        titles=("title", "full_title"),
        parts=(("", "description"), ("Requirements", "requirements"), ("Benefits", "benefits")),
        further={
            "city": "city",
            "region": "state",
            "country": "country",
            "remote": ("location.telecommuting", "telecommuting", "remote"),
            "workplace_type": ("location.workplace_type", "workplace"),
            "department": "department",
            "employment_type": "employment_type",
            "category": ("function", "industry"),
            "posted_at": ("published_on", "created_at"),
            "salary_min": "salary.salary_from",
            "salary_max": "salary.salary_to",
            "salary_currency": "salary.salary_currency",
            "url": "url",
        },
        signature=(("shortcode", "title"),),
        derive=_workable_facets,
    ),
    "hr-open": KnownFormat(
        records=None,
        ids=("documentId.value", "positionProfiles[0].positionId.value", "person.id.value"),
        titles=(
            "positionProfiles[0].positionTitle",
            "profiles[0].employment[0].positionHistories[0].title",
            "profiles[0].profileName",
        ),
        parts=(),
        further={
            "name": "person.name.formattedName",
            "given_name": "person.name.given",
            "family_name": "person.name.family",
            "email": "person.communication.email[].address",
            "phone": "person.communication.phone[].formattedNumber",
            "company": "positionProfiles[0].positionOrganizations[].name",
            "category": "positionProfiles[0].jobCategories[].name",
            "employment_type": "positionProfiles[0].positionScheduleTypeCodes",
            "posted_at": "positionProfiles[0].postingInstructions[0].start",
            "valid_through": "positionProfiles[0].postingInstructions[0].end",
        },
        signature=(("documentId", "profiles"), ("person", "profiles"), ("positionProfiles",)),
        write=_hr_open_text,
        derive=_hr_open_facets,
    ),
    "indeed-xml": KnownFormat(
        records="job",
        ids=("referencenumber", "requisitionid", "url"),
        titles=("title",),
        parts=(("", "description"), ("Experience", "experience"), ("Education", "education")),
        further={
            "company": "company",
            "city": "city",
            "state": "state",
            "country": "country",
            "postcode": "postalcode",
            "salary": "salary",
            "employment_type": "jobtype",
            "remote_type": "remotetype",
            "category": "category",
            "posted_at": "date",
            "valid_through": "expirationdate",
            "url": "url",
        },
        signature=(("referencenumber", "description"), ("referencenumber", "title")),
    ),
}
"""Known formats by name."""
