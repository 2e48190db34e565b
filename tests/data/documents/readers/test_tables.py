import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data.config import SourceConfig
from data.documents.facets import read_facets
from data.documents.rows import RawRow, ReadLog, RejectedRow
from data.documents.sources import read_rows
from data.errors import InputError


def read(path, content=None, **settings):
    """Rows of a file that is written first, and the notes of the log."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = ReadLog()
    rows = list(read_rows(SourceConfig(kind=settings.pop("kind", "job"), path=str(path), **settings), log))
    return rows, list(log.notes)


def values(rows):
    return [row.values if isinstance(row, RawRow) else str(row.reason) for row in rows]


# --- CSV --------------------------------------------------------------------------------------------------------------

GERMAN = "id,title,description\n1,Köchin,Leitet die Küche – im Hotel\n2,Bäcker,Bäckt Brötchen\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le"])
def test_an_encoding_is_detected_and_said(tmp_path, encoding):
    rows, notes = read(tmp_path / "a.csv", GERMAN.encode(encoding))
    assert [row["title"] for row in values(rows)] == ["Köchin", "Bäcker"]
    assert notes == [f"read as {encoding}"]


def test_an_encoding_can_be_configured_and_one_bad_row_stays_a_bad_row(tmp_path):
    one = b"id,text\n1,caf\xe9\n2,tea\n"
    rows, _ = read(tmp_path / "a.csv", one)
    assert values(rows) == ["invalid_utf8", {"id": "2", "text": "tea"}]
    rows, _ = read(tmp_path / "a.csv", one, encoding="latin-1")
    assert values(rows)[0]["text"] == "café"
    with pytest.raises(ValidationError, match="is not a known encoding"):
        SourceConfig(kind="job", path="x", encoding="klingon")


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ('id;title;description\n1;Koch;"Kocht; backt"\n', "cells separated by semicolon"),
        ("sep=;\r\nid;title;description\r\n1;Koch;Kocht, backt\r\n", "cells separated by semicolon"),
        ("id\ttitle\tdescription\n1\tKoch\tKocht, backt\n", "cells separated by tab"),
        ("id|title|description\n1|Koch|Kocht, backt\n", "cells separated by bar"),
    ],
)
def test_a_separator_is_detected_and_said(tmp_path, content, note):
    rows, notes = read(tmp_path / "a.csv", content)
    assert [row["title"] for row in values(rows)] == ["Koch"]
    assert note in notes


def test_a_separator_can_be_configured(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "id^text\n1^a,b;c\n", separator="^")
    assert values(rows) == [{"id": "1", "text": "a,b;c"}]


def test_backslashes_before_quotes_are_escapes_where_that_makes_the_rows_whole(tmp_path):
    rows, notes = read(tmp_path / "a.csv", 'id,text\n1,"the \\"fine\\" kitchen, menus"\n2,"a 3.5\\" van"\n3,plain\n')
    assert [row["text"] for row in values(rows)] == ['the "fine" kitchen, menus', 'a 3.5" van', "plain"]
    assert notes == ["quotes within cells escaped by a backslash"]
    rows, notes = read(tmp_path / "b.csv", 'id,text\n1,"path C:\\"\n2,"say ""hi"""\n')
    assert ([row["text"] for row in values(rows)], notes) == (["path C:\\", 'say "hi"'], [])


def test_lines_before_the_header_are_passed_over(tmp_path):
    rows, notes = read(tmp_path / "a.csv", 'Notes:\n"Some fields, may be missing."\n\nid,text\n1,Nurse\n2,Cook,x,y\n')
    assert values(rows) == [{"id": "1", "text": "Nurse"}, "wrong_shape"]
    assert notes == ["3 line(s) before the header passed over"]


def test_headers_are_matched_without_case_and_outer_blanks(tmp_path):
    rows, notes = read(tmp_path / "a.csv", "ID, Title ,DESCRIPTION, Pay \n1,Cook,Cooks,20\n")
    assert values(rows) == [{"id": "1", "title": "Cook", "description": "Cooks", "Pay": "20"}]
    assert notes[0] == "column 'ID' taken for 'id'"
    rows, _ = read(tmp_path / "b.csv", "Job ID, Job Text \n1,Cooks\n", id_field="job id", text_field="Job Text")
    assert values(rows) == [{"job id": "1", "Job Text": "Cooks"}]


def test_two_columns_that_differ_in_case_only_are_not_confused(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "id,ID,text\n1,x,Cooks\n")
    assert values(rows) == [{"id": "1", "ID": "x", "text": "Cooks"}]


def test_separators_at_the_end_of_lines_duplicate_columns_and_an_unnamed_index(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "id,text,\n1,a,\n2,b,,,\n")
    assert values(rows) == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    rows, _ = read(tmp_path / "b.csv", "id,text,tag,tag\n1,a,x,y\n")
    assert values(rows) == [{"id": "1", "text": "a", "tag": "x", "tag_2": "y"}]
    rows, notes = read(tmp_path / "c.csv", ",text\n0,a\n1,b\n")
    assert (values(rows)[0], notes) == ({"id": "0", "text": "a"}, ["unnamed first column taken for 'id'"])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1.0", "2.0", "3.5E+09"], ["1", "2", "3500000000"]),
        (["1.0", "2.5"], ["1.0", "2.5"]),
        (["1.0", "A-7"], ["1.0", "A-7"]),
        (["007", "1.0"], ["007", "1.0"]),
        (["1", "2.0"], ["1", "2.0"]),
    ],
)
def test_ids_that_became_floats_are_integers_if_all_are(tmp_path, ids, expected):
    rows, notes = read(tmp_path / "a.csv", "id,text\n" + "".join(f"{each},x\n" for each in ids))
    assert [row["id"] for row in values(rows)] == expected
    assert bool(notes) == (ids != expected)


def test_float_ids_of_parquet_are_integers(tmp_path):
    pq.write_table(pa.table({"id": [1.0, 2.0, None], "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    rows, notes = read(tmp_path / "a.parquet")
    assert [row["id"] for row in values(rows)] == [1, 2, None]
    assert notes == ["ids that were written as floats read as integers"]


# --- JSON -------------------------------------------------------------------------------------------------------------

RECORDS = [{"id": 1, "text": "Cooks"}, {"id": 2, "text": "Bakes"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(RECORDS)),
        ("a.json", json.dumps(RECORDS, indent=2)),
        ("a.json", "\n".join(map(json.dumps, RECORDS))),
        ("a.jsonl", json.dumps(RECORDS)),
        ("a.jsonl", "\n".join(json.dumps(each, indent=1) for each in RECORDS)),
        ("a.ndjson", "\n".join(map(json.dumps, RECORDS))),
        ("a.json", json.dumps(RECORDS).encode("utf-16")),
        ("a.jsonl", "\n".join(map(json.dumps, RECORDS)).encode("utf-16")),
    ],
)
def test_records_of_json_however_they_are_written(tmp_path, name, content):
    assert values(read(tmp_path / name, content)[0]) == RECORDS


def test_long_arrays_are_read_in_pieces(tmp_path, monkeypatch):
    from data.documents.readers import json_values

    monkeypatch.setattr(json_values, "_BLOCK", 7)
    records = [{"id": number, "text": "äöü " * number} for number in range(40)]
    rows, _ = read(tmp_path / "a.json", json.dumps(records, ensure_ascii=False))
    assert values(rows) == records


@pytest.mark.parametrize("rest", [' {"id": 2, "te', " nonsense]", ""])
def test_an_array_that_is_damaged_keeps_what_came_before(tmp_path, rest):
    rows, _ = read(tmp_path / "a.json", '[{"id": 1, "text": "x"},' + rest)
    assert values(rows) == [{"id": 1, "text": "x"}, "bad_json"]


def test_values_that_are_no_records_cost_themselves_only(tmp_path):
    rows, _ = read(tmp_path / "a.json", '[{"id": 1, "text": "x"}, 5, [1], {"id": 2, "text": "y"}]')
    assert values(rows) == [{"id": 1, "text": "x"}, "not_an_object", "not_an_object", {"id": 2, "text": "y"}]


def test_one_object_a_file_takes_its_name_for_the_id(tmp_path):
    (tmp_path / "a.json").write_text('{"text": "Cooks"}')
    (tmp_path / "b.json").write_text('{"id": "B", "text": "Bakes"}')
    rows, notes = read(tmp_path)
    assert [row["id"] for row in values(rows)] == ["a.json", "B"]
    assert notes == ["the file's name taken for the id"]


def test_records_below_a_key_are_read_or_proposed(tmp_path):
    content = json.dumps({"total": 2, "data": {"jobs": RECORDS}})
    rows, _ = read(tmp_path / "a.json", content, records="data.jobs[]")
    assert values(rows) == RECORDS
    with pytest.raises(InputError, match=r"no records at 'posts\[\]'; fields found: data, total"):
        read(tmp_path / "a.json", content, records="posts[]")
    with pytest.raises(InputError, match="expected records") as caught:
        read(tmp_path / "b.json", json.dumps({"jobs": RECORDS}))
    assert 'records = "jobs[]"' in caught.value.hint


# --- XML --------------------------------------------------------------------------------------------------------------

FEED = """<?xml version="1.0" encoding="utf-8"?><source><publisher>x</publisher>
<job><id>1</id><title><![CDATA[Cook]]></title><text>Cooks &amp; bakes</text><place><city>York</city></place></job>
<job><id>2</id><title>Baker</title><text>Bakes</text><tag>a</tag><tag>b</tag></job></source>"""


def test_every_element_of_a_feed_is_a_row(tmp_path):
    rows, notes = read(tmp_path / "a.xml", FEED)
    assert values(rows) == [
        {"id": "1", "title": "Cook", "text": "Cooks & bakes", "place": {"city": "York"}},
        {"id": "2", "title": "Baker", "text": "Bakes", "tag": ["a", "b"]},
    ]
    assert notes == ["every element 'job' read as a row"]


def test_the_element_of_a_feed_can_be_named(tmp_path):
    feed = "<all><row><id>1</id><text>Cooks</text></row><row><id>2</id><text>Bakes</text></row></all>"
    assert len(read(tmp_path / "a.xml", feed)[0]) == 2
    assert len(read(tmp_path / "a.xml", feed, records="row")[0]) == 2
    with pytest.raises(InputError, match="no element 'job'"):
        read(tmp_path / "a.xml", feed, records="job")


def test_a_feed_that_is_cut_off_keeps_what_came_before(tmp_path):
    rows, _ = read(tmp_path / "a.xml", FEED[:-60])
    assert [row if isinstance(row, str) else row["id"] for row in values(rows)] == ["1", "wrong_shape"]
    with pytest.raises(InputError, match="not a readable XML"):
        read(tmp_path / "b.xml", "<?xml version='1.0'?><a")


def test_entities_of_a_feed_are_not_expanded(tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    bomb = f'<!DOCTYPE x [<!ENTITY a "{"z" * 100}"><!ENTITY f SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    feed = f"{bomb}<jobs><job><id>1</id><text>Cooks &f;&a;</text></job></jobs>"
    rows, _ = read(tmp_path / "a.xml", f"<?xml version='1.0'?>{feed}")
    assert "SECRET" not in str(rows)
    assert "zzz" not in str(rows)


# --- spreadsheets -----------------------------------------------------------------------------------------------------


def write_xlsx(path, **sheets):
    """A spreadsheet written by hand; numbers as numbers, everything else as text."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def cell(value):
        if isinstance(value, (int, float)):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'

    with zipfile.ZipFile(path, "w") as file:
        names = "".join(f'<sheet name="{each}" sheetId="{at}" r:id="r{at}"/>' for at, each in enumerate(sheets, 1))
        targets = "".join(
            f'<Relationship Id="r{at}" Type="{office}/worksheet" Target="worksheets/s{at}.xml"/>'
            for at, _ in enumerate(sheets, 1)
        )
        file.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>'
        )
        relations = "http://schemas.openxmlformats.org/package/2006/relationships"
        target = f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
        file.writestr("_rels/.rels", f'<Relationships xmlns="{relations}">{target}</Relationships>')
        file.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{relations}">{targets}</Relationships>')
        for at, rows in enumerate(sheets.values(), 1):
            lines = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
            file.writestr(
                f"xl/worksheets/s{at}.xml", f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'
            )
    return path


def test_the_sheet_with_id_and_text_is_read(tmp_path):
    path = write_xlsx(
        tmp_path / "a.xlsx",
        Cover=[["Postings of May"]],
        Jobs=[["exported in May"], ["ID", "Title", "Text", "Pay"], [1, "Cook", "Cooks", 20.5], [2, 7, "Bakes", 30]],
    )
    log = ReadLog()
    rows = list(read_rows(SourceConfig(kind="job", path=str(path)), log))
    assert values(rows) == [
        {"id": "1", "title": "Cook", "text": "Cooks", "Pay": 20.5},
        {"id": "2", "title": "7", "text": "Bakes", "Pay": 30},
    ]
    assert log.skipped == {"a.xlsx: Cover": "another sheet"}
    assert "1 line(s) before the header passed over" in log.notes


def test_a_sheet_without_the_columns_and_a_damaged_one_are_the_callers_mistake(tmp_path):
    with pytest.raises(InputError, match=r"no id column 'id'.*columns found: Body, Key"):
        read(write_xlsx(tmp_path / "a.xlsx", Jobs=[["Key", "Body"], [1, "x"]]))
    with pytest.raises(InputError, match="not a readable spreadsheet"):
        read(tmp_path / "b.xlsx", b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match="is empty"):
        read(write_xlsx(tmp_path / "c.xlsx", Jobs=[]))


# --- field paths and known formats ------------------------------------------------------------------------------------


def test_fields_are_named_by_paths_and_joined(tmp_path):
    record = {
        "meta": {"key": "K1", "name": "Baker"},
        "work": [{"highlights": ["rye", "wheat"]}, {"highlights": ["oats"]}],
        "summary": "Bakes.",
        "extraSkills": None,
    }
    rows, _ = read(
        tmp_path / "a.jsonl",
        json.dumps(record),
        id_field="meta.key",
        title_field="meta.name",
        text_field=["summary", "work[].highlights[]", "extraSkills", "gone.away"],
    )
    found = values(rows)[0]
    assert (found["meta.key"], found["meta.name"]) == ("K1", "Baker")
    assert found["text"] == "Bakes.\n\nHighlights:\nrye\nwheat\noats"
    rows, _ = read(tmp_path / "b.jsonl", json.dumps(record), id_field="meta.key", text_field="work[0].highlights[1]")
    assert values(rows)[0]["work[0].highlights[1]"] == "wheat"


def test_several_columns_of_a_csv_are_joined(tmp_path):
    rows, _ = read(
        tmp_path / "a.csv", "id,duties,must_have\n1,Cooks,Knife\n2,,Oven\n", text_field=["duties", "must_have"]
    )
    assert [row["text"] for row in values(rows)] == ["Cooks\n\nMust have:\nKnife", "Oven"]


GREENHOUSE = {
    "jobs": [
        {
            "id": 12,
            "internal_job_id": 3,
            "title": "Cook",
            "content": "&lt;p&gt;Cooks&lt;/p&gt;",
            "location": {"name": "York"},
            "departments": [{"name": "Kitchen"}],
        }
    ]
}
LEVER = [
    {
        "id": "a-1",
        "text": "Cook",
        "categories": {"location": "York", "commitment": "Full-time"},
        "description": "<div>Cooks.</div>",
        "lists": [{"text": "Duties", "content": "<li>menus</li><li>staff</li>"}],
        "additional": "<div>Apply now.</div>",
    }
]
POSTING = {
    "@type": "JobPosting",
    "identifier": {"value": "P-1"},
    "title": "Cook",
    "description": "<p>Cooks.</p>",
    "skills": "Knife",
    "hiringOrganization": {"name": "Inn"},
    "jobLocation": [{"address": {"addressLocality": "York"}}, {"address": {"addressLocality": "Leeds"}}],
    "baseSalary": {"currency": "GBP", "value": {"minValue": 20, "maxValue": 30, "unitText": "HOUR"}},
    "validThrough": "2026-02-01",
}
RESUME = {
    "basics": {"name": "Rosa Muster", "label": "Welder", "summary": "Welds."},
    "work": [{"name": "Yard", "position": "Welder", "startDate": "2019", "endDate": "2024", "highlights": ["TIG"]}],
    "education": [{"institution": "School", "area": "Metal", "studyType": "Diploma"}],
    "skills": [{"name": "Welding", "keywords": ["TIG", "MAG"]}],
}
WORKABLE = {"jobs": [{"shortcode": "W1", "title": "Cook", "description": "Cooks.", "requirements": "Knife"}]}
INDEED = (
    "<all><job><title>Cook</title><referencenumber>7</referencenumber><description>Cooks.</description></job></all>"
)


@pytest.mark.parametrize(
    ("name", "file", "content", "expected"),
    [
        ("greenhouse", "a.json", GREENHOUSE, ("12", "Cook", "&lt;p&gt;Cooks&lt;/p&gt;")),
        ("workable", "a.json", WORKABLE, ("W1", "Cook", "Cooks.\n\nRequirements:\nKnife")),
        ("schema.org-jobposting", "a.json", POSTING, ("P-1", "Cook", "<p>Cooks.</p>\n\nSkills:\nKnife")),
        ("indeed-xml", "a.xml", f"<?xml version='1.0'?>{INDEED}", ("7", "Cook", "Cooks.")),
        (
            "json-resume",
            "a.json",
            RESUME,
            (
                "a.json#1",
                "Welder",
                "Welder\n\nWelds.\n\nExperience:\nWelder, Yard (2019 - 2024)\nTIG\n\n"
                "Education:\nDiploma, Metal, School\n\nSkills:\nWelding, TIG, MAG",
            ),
        ),
    ],
)
def test_known_formats_give_id_title_and_text_and_are_proposed(tmp_path, name, file, content, expected):
    text = content if isinstance(content, str) else json.dumps(content)
    rows, _ = read(tmp_path / file, text, format=name)
    (found,) = values(rows)
    assert (found["id"], found["title"], found["text"]) == expected
    with pytest.raises(InputError) as caught:
        read(tmp_path / file, text)
    assert f'format = "{name}"' in caught.value.hint


def test_lever_keeps_its_lists_and_further_fields_get_plain_names(tmp_path):
    from data.documents.extract.html import strip_markup

    (found,) = values(read(tmp_path / "a.json", json.dumps(LEVER), format="lever")[0])
    assert (found["id"], found["title"], found["location"], found["employment_type"]) == (
        "a-1",
        "Cook",
        "York",
        "Full-time",
    )
    lines = strip_markup(found["text"]).split("\n")
    assert [line for line in lines if line] == [
        "Cooks.",
        "Duties",
        "menus",
        "staff",
        "Apply now.",
    ]
    (found,) = values(read(tmp_path / "b.json", json.dumps(POSTING), format="schema.org-jobposting")[0])
    assert (found["location"], found["salary_min"], found["valid_through"]) == ("York; Leeds", 20, "2026-02-01")


HR_POSITION = {
    "documentId": {"value": "P-7"},
    "positionProfiles": [
        {
            "positionTitle": "Cook",
            "positionFormattedDescriptions": [
                {"title": "Job Description", "content": "<p>Cooks.</p>"},
                {"title": "Benefits", "content": "<ul><li>Meals</li></ul>"},
            ],
            "positionLocation": [{"city": "Austin", "countrySubDivisions": [{"type": "state", "value": "TX"}]}],
            "positionScheduleTypeCodes": ["Full Time"],
            "postingInstructions": [{"start": "2026-01-10", "end": "2026-02-01"}],
            "offeredRemunerationPackage": {
                "ranges": [
                    {"typeCode": "Minimum BasePay", "intervalCode": "Year",
                     "referenceAmount": {"value": 50000, "currency": "USD"}},
                    {"typeCode": "Maximum BasePay", "intervalCode": "Year",
                     "referenceAmount": {"value": 60000, "currency": "USD"}},
                ]
            },
        }
    ],
}  # fmt: skip
HR_CANDIDATE = {
    "documentId": {"value": "C-1"},
    "person": {
        "name": {"given": "Rosa", "family": "Muster"},
        "communication": {"address": [{"city": "Kiel", "countryCode": "DE", "countrySubdivisions": []}]},
    },
    "profiles": [
        {
            "executiveSummary": "Welds.",
            "employment": [
                {
                    "organization": {"name": "Yard"}, "start": "2019-01", "end": "2024-05",
                    "positionHistories": [{"title": "Welder"}], "descriptions": ["TIG and MAG."],
                }
            ],
            "education": [{"institution": {"name": "School"}, "educationDegrees": [{"name": "Diploma"}]}],
            "qualifications": [{"competencyName": "Welding", "description": "ten years"}],
        }
    ],
}  # fmt: skip


def test_hr_open_gives_postings_and_resumes(tmp_path):
    from data.documents.extract.html import strip_markup

    (found,) = values(read(tmp_path / "a.json", json.dumps([HR_POSITION]), format="hr-open")[0])
    assert (found["id"], found["title"]) == ("P-7", "Cook")
    assert strip_markup(found["text"]).split() == ["Job", "Description", "Cooks.", "Benefits", "Meals"]
    facets = read_facets(found)[0]
    assert (facets["location"], facets["employment_type"], facets["valid_through"]) == (
        "Austin, TX", "FULL_TIME", "2026-02-01",
    )  # fmt: skip
    assert [facets[f"salary_{name}"] for name in ("min", "max", "currency", "unit")] == [50000, 60000, "USD", "year"]
    (found,) = values(read(tmp_path / "b.json", json.dumps(HR_CANDIDATE), format="hr-open", kind="resume")[0])
    assert (found["id"], found["title"], found["city"]) == ("C-1", "Welder", "Kiel")
    assert found["text"] == (
        "Welds.\n\nExperience:\nWelder, Yard (2019-01 - 2024-05)\nTIG and MAG.\n\nEducation:\nDiploma, School\n\n"
        "Skills:\nWelding\nten years"
    )
    for record in (HR_POSITION, HR_CANDIDATE):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "c.json", json.dumps([record]))
        assert 'format = "hr-open"' in caught.value.hint


# --- linked data ------------------------------------------------------------------------------------------------------


def posting(number):
    return {**POSTING, "identifier": {"value": f"P-{number}"}}


SITE = {"@type": "WebSite", "name": "Jobs"}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.json", [SITE, posting(1), posting(2)], ["P-1", "P-2"]),
        ("a.json", {"@context": "https://schema.org", "@graph": [SITE, posting(1), posting(2)]}, ["P-1", "P-2"]),
        (
            "a.json",
            {"@type": "WebPage", "mainEntity": {**posting(1), "@type": ["Thing", "schema:JobPosting"]}},
            ["P-1"],
        ),
        (
            "a.json",
            {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": posting(3)}, posting(4)]},
            ["P-3", "P-4"],
        ),
        ("a.jsonl", {"@graph": [posting(1), {**posting(2), "identifier": None}, SITE]}, ["P-1", "a.jsonl#1.2"]),
        ("a.json", [{"title": "Cook", "description": "Cooks.", "url": "u1"}], ["u1"]),
    ],
)
def test_postings_are_found_where_linked_data_has_them(tmp_path, file, content, expected):
    rows, _ = read(tmp_path / file, json.dumps(content), format="schema.org-jobposting")
    assert [found["id"] for found in values(rows)] == expected


def test_linked_data_that_is_no_posting_is_named(tmp_path):
    _, notes = read(tmp_path / "a.json", json.dumps([SITE, posting(1)]), format="schema.org-jobposting")
    assert notes == ["linked data that is no posting passed over: WebSite"]
    with pytest.raises(InputError, match="has no JobPosting; its objects are of type WebSite"):
        read(tmp_path / "a.json", json.dumps([SITE]), format="schema.org-jobposting")
    for content in ({"@context": "x", "@graph": [posting(1)]}, {"@type": "WebPage", "mainEntity": posting(1)}):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "a.json", json.dumps(content))
        assert 'format = "schema.org-jobposting"' in caught.value.hint


def page(*scripts, body="<nav>Menu</nav><p>Text of the page.</p>"):
    tags = "".join(f'<script type="application/ld+json">{each}</script>' for each in scripts)
    return f"<!doctype html><html><head><title>Jobs</title>{tags}</head><body>{body}</body></html>"


def test_a_saved_page_gives_the_postings_of_its_linked_data(tmp_path):
    graph = json.dumps({"@graph": [SITE, {**posting(1), "description": "<p>Cooks\n& bakes.</p>"}]})
    rows, notes = read(tmp_path / "a.html", page(json.dumps(SITE), f"//<![CDATA[\n{graph}\n//]]>"))
    (found,) = values(rows)
    assert (found["id"], found["title"], found["salary_min"]) == ("P-1", "Cook", 20)
    assert found["text"].startswith("<p>Cooks\n& bakes.</p>")
    assert notes == ["postings read from the JSON-LD of the page"]
    rows, _ = read(tmp_path / "a.html", page(json.dumps([posting(1), {**posting(2), "identifier": None}])))
    assert [found["id"] for found in values(rows)] == ["P-1", "a.html#2"]
    (found,) = values(read(tmp_path / "a.html", page(graph), kind="resume")[0])
    assert (found["id"], found["text"]) == ("a.html", "Menu\n\nText of the page."), "resumes are pages"


def test_a_page_whose_linked_data_cannot_be_used_gives_its_text(tmp_path):
    rows, _ = read(tmp_path / "a.html", page(json.dumps(SITE)))
    assert values(rows)[0]["text"] == "Menu\n\nText of the page."
    rows, notes = read(tmp_path / "a.html", page('{"@type": "JobPosting", "title": }'))
    assert values(rows)[0]["text"] == "Menu\n\nText of the page."
    assert notes == ["JSON-LD with a posting that cannot be read; the text of the page was taken"]
    bare = {"@type": "JobPosting", "title": "Cook", "validThrough": "2026-02-01"}
    rows, notes = read(tmp_path / "a.html", page(json.dumps(bare)))
    (found,) = values(rows)
    assert (found["text"], found["valid_through"]) == ("Menu\n\nText of the page.", "2026-02-01")
    rows, _ = read(tmp_path / "a.html", page(json.dumps(SITE)), format="schema.org-jobposting")
    assert values(rows) == ["missing_text"]


def test_every_row_of_a_table_is_kept_or_rejected(tmp_path):
    rows, _ = read(tmp_path / "a.csv", "id;text\n1;a\n2\n3;c;d\n4;e\n")
    assert [isinstance(row, RejectedRow) for row in rows] == [False, True, True, False]
