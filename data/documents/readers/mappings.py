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
        further: Paths of further fields by name in the metadata.
        signature: Groups of fields. A record with all fields of one group has this format.
        write: Renders the text, if paths are not sufficient.
    """

    records: str | None
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    further: Mapping[str, str]
    signature: tuple[tuple[str, ...], ...]
    write: Callable[[SourceRecord], str] | None = None

    def apply(self, record: SourceRecord, config: SourceConfig, *, fallback_id: str) -> dict[str, object]:
        """Convert a record to a row with the source's names for id, title and text."""
        ids = [str(each) for path in self.ids for each in values_at(record, path) if isinstance(each, (str, int))]
        titles = [found for path in self.titles if (found := text_at(record, path))]
        text = self.write(record) if self.write is not None else _joined(record, self.parts)
        further = {name: _plain(values_at(record, path)) for name, path in self.further.items()}
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


def _plain(values: list[object]) -> object:
    """One value, several as a list, or None."""
    return None if not values else values[0] if len(values) == 1 else values


def _line(record: object, *paths: str, between: str = ", ") -> str:
    return between.join(found.replace("\n", ", ") for path in paths if (found := text_at(record, path)))


def _dates(record: object) -> str:
    dates = [text_at(record, "startDate"), text_at(record, "endDate")]
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
    # HTML paragraphs: the text as a whole is then HTML, and headings keep their own lines.
    is_html = any("</" in block for block in blocks)
    return ("<br><br>" if is_html else "\n\n").join(
        block.replace("\n", "<br>") if is_html and "</" not in block.split("\n")[0] else block
        for block in blocks
        if block
    )


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
            "location": "jobLocation[].address.addressLocality",
            "country": "jobLocation[].address.addressCountry",
            "employment_type": "employmentType",
            "posted_at": "datePosted",
            "valid_through": "validThrough",
            "salary_currency": "baseSalary.currency",
            "salary_min": "baseSalary.value.minValue",
            "salary_max": "baseSalary.value.maxValue",
            "salary_unit": "baseSalary.value.unitText",
            "location_type": "jobLocationType",
        },
        signature=(("@type", "hiringOrganization"), ("datePosted", "hiringOrganization"), ("@type", "jobLocation")),
    ),
    "greenhouse": KnownFormat(
        records="jobs[]",
        ids=("id", "internal_job_id"),
        titles=("title",),
        parts=(("", "content"),),
        further={
            "location": "location.name",
            "department": "departments[].name",
            "posted_at": "first_published",
            "updated_at": "updated_at",
            "url": "absolute_url",
            "requisition": "requisition_id",
        },
        signature=(("internal_job_id", "content"), ("absolute_url", "content", "title")),
    ),
    "lever": KnownFormat(
        records=None,
        ids=("id",),
        titles=("text",),
        parts=(),
        further={
            "location": "categories.location",
            "employment_type": "categories.commitment",
            "team": "categories.team",
            "department": "categories.department",
            "workplace_type": "workplaceType",
            "salary_currency": "salaryRange.currency",
            "salary_min": "salaryRange.min",
            "salary_max": "salaryRange.max",
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
            "location": "location.city",
            "country": "location.country",
            "department": "department",
            "employment_type": "employment_type",
            "posted_at": "published_on",
            "url": "url",
        },
        signature=(("shortcode", "title"),),
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
            "category": "category",
            "posted_at": "date",
            "valid_through": "expirationdate",
            "url": "url",
        },
        signature=(("referencenumber", "description"), ("referencenumber", "title")),
    ),
}
"""Known formats by name."""
