"""Files that LaTeX, LibreOffice, Chromium and Typst made from known text; ``tools/make_printed.py`` writes them."""

import re
import time
import unicodedata
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from data.documents.extract.docx import read_docx
from data.documents.extract.odt import read_odt
from data.documents.extract.page_layout import Glyph, page_text
from data.documents.extract.pdf import read_pdf
from data.documents.extract.plain import read_rtf
from tools.make_printed import PRINTED

FOLDER = Path(__file__).parent / "printed"
BY_NAME = {each.name: each for each in PRINTED}
READERS = {".pdf": read_pdf, ".docx": read_docx, ".odt": read_odt, ".rtf": read_rtf}


def words(text):
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text))


def scores(expected, found):
    """Share of the expected words that were found, and that were found in order."""
    same = sum((Counter(expected) & Counter(found)).values())
    blocks = SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
    return same / len(expected), sum(block.size for block in blocks) / len(expected)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_printed_resume_has_its_words_in_reading_order(name):
    expected = words("\n".join(BY_NAME[name].text))
    extracted = READERS[Path(name).suffix](FOLDER / name)
    found = words(extracted.text)
    kept, in_order = scores(expected, found)
    assert min(kept, in_order) >= 0.99
    assert extracted.marks == ()
    assert len(found) <= 1.02 * len(expected)


def test_every_printed_resume_has_its_text():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(BY_NAME)


def test_a_page_of_accents_that_no_letter_carries_is_not_slow():
    far = Glyph("´", (0.0, 0.0, 5.0, 10.0), 10.0, 0)
    glyphs = [Glyph("e", (900.0, 500.0, 905.0, 510.0), 10.0, 0), *[far] * 15_000]
    started = time.process_time()
    page_text(glyphs, [])
    assert time.process_time() - started < 20
