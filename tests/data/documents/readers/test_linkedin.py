import pytest

from data.config import SourceConfig
from data.documents.rows import RawRow, ReadLog
from data.documents.sources import read_rows
from data.errors import InputError

PROFILE = "First Name,Last Name,Headline,Summary,Industry,Geo Location\nRosa,Muster,Welder,Welds.,Ships,Kiel\n"
POSITIONS = (
    'Notes:\n"Some fields, may be missing."\n\nCompany Name,Title,Description,Location,Started On,Finished On\n'
    'Yard,Welder,"TIG\nand MAG",Kiel,Jan 2019,\nDock,Helper,,,2015,2018\n'
)


def read(path):
    log = ReadLog()
    config = SourceConfig(kind="resume", path=str(path), format="linkedin-export")
    return list(read_rows(config, log)), log


def test_each_folder_of_an_export_is_a_resume_and_contacts_are_not_read(tmp_path):
    for name in ("rosa", "ben"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Positions.csv").write_text(POSITIONS)
    (tmp_path / "rosa" / "Profile.csv").write_text(PROFILE)
    (tmp_path / "rosa" / "Skills.csv").write_text("Name\nTIG\nMAG\n")
    (tmp_path / "rosa" / "Connections.csv").write_text("First Name,Email Address\nAnna,anna@muster.example\n")
    (ben, rosa), log = read(tmp_path)
    assert isinstance(rosa, RawRow)
    assert (rosa.values["id"], rosa.values["title"], rosa.values["name"]) == ("rosa", "Welder", "Rosa Muster")
    assert rosa.values["text"] == (
        "Welder\n\nWelds.\n\nExperience:\nWelder, Yard, Kiel (Jan 2019)\nTIG\nand MAG\nHelper, Dock (2015 - 2018)\n\n"
        "Skills:\nTIG\nMAG"
    )
    assert (ben.values["id"], ben.values["title"]) == ("ben", "Welder")
    assert log.skipped == {"rosa/Connections.csv": "no part of a resume in a LinkedIn export"}


def test_a_folder_that_is_one_export_takes_its_name_and_a_damaged_one_is_rejected(tmp_path):
    (tmp_path / "Profile.csv").write_text(PROFILE)
    ((row,), _) = read(tmp_path)
    assert row.values["id"] == tmp_path.name
    (tmp_path / "Positions.csv").write_text('Title,Company Name\n"open,Yard\n')
    ((row,), _) = read(tmp_path)
    assert str(row.reason) == "unreadable_file"


def test_a_folder_without_an_export_is_refused(tmp_path):
    (tmp_path / "Skills.csv").write_text("Name\nTIG\n")
    with pytest.raises(InputError, match=r"no folder with Profile\.csv"):
        read(tmp_path)
