import pytest

from data.documents.extract.encoding import detect_encoding, read_text
from data.documents.extract.extracted import Mark
from data.documents.extract.html import read_html, strip_markup
from data.documents.extract.plain import read_html_file, read_plain, read_rtf

# --- HTML -------------------------------------------------------------------------------------------------------------

PAGE = (
    "<div><h3>Your day</h3><p>You run the <b>bakery</b> &amp; order flour.</p><ul><li>3+ years</li>"
    "<li>C &lt;9</li></ul><br>Write:<br/>today<script>var x=1;</script><style>p{color:red}</style><!-- gone --></div>"
)
SHOWN = "Your day\n\nYou run the bakery & order flour.\n\n3+ years\nC <9\n\nWrite:\ntoday"


def test_markup_in_a_field_becomes_what_a_browser_shows():
    assert strip_markup(PAGE) == SHOWN


@pytest.mark.parametrize("times", [1, 2])
def test_escaped_markup_becomes_the_same(times):
    escaped = PAGE
    for _ in range(times):
        escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert strip_markup(escaped) == SHOWN


@pytest.mark.parametrize(
    "text",
    [
        "Experience < 5 years and > 2 bakeries; a<b generics List<String>",
        "vector<int> and Map<String, List<Integer>>",
        "a<b and c>d",
        "write to <https://x.example> or <me@x.example>",
        "AT&T and R&D; 3 &lt; 5",
        "knows the <b> tag",
    ],
)
def test_what_is_no_markup_stays(text):
    assert strip_markup(text) == text


def test_generics_and_comparisons_within_markup_stay():
    assert strip_markup("<p>Uses List<String> when x < 5 &amp; y</p>") == "Uses List<String> when x < 5 & y"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>Duties<ul><li>bake<li>sell</ul>", "Duties\n\nbake\nsell"),
        ('<p>Write to <a href="mailto:a@b.example">us</a></p>', "Write to us"),
        ("<table><tr><td>Pay</td><td>20</td></tr><tr><td>Hours</td><td>8</td></tr></table>", "Pay | 20\nHours | 8"),
        ("one\ntwo <b>bold</b>\nthree", "one\ntwo bold\nthree"),
        ("<p>one\n  two</p>", "one two"),
        ("<pre>one\n  two</pre>", "one\ntwo"),
        ('<p>seen</p><p style="display: none">python</p>', "seen"),
        ("<div>" * 5000 + "deep" + "</div>" * 5000, "deep"),
    ],
)
def test_elements(markup, text):
    assert strip_markup(markup) == text


def test_a_page_has_a_title_and_hidden_text_is_marked():
    found = read_html("<html><head><title>A  CV</title></head><body>Baker <span hidden>python</span></body></html>")
    assert (found.text, found.title, found.marks) == ("Baker", "A CV", (Mark.HIDDEN_TEXT,))


# --- encodings --------------------------------------------------------------------------------------------------------

GERMAN = "Leitet die Küche – eines großen Hotels, „flexible“ Zeiten\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"plain", "utf-8-sig"),
        (GERMAN.encode(), "utf-8-sig"),
        (b"\xef\xbb\xbf" + GERMAN.encode(), "utf-8-sig"),
        (GERMAN.encode("utf-16"), "utf-16"),
        (GERMAN.encode("utf-16-le"), "utf-16-le"),
        (GERMAN.encode("utf-16-be"), "utf-16-be"),
        (GERMAN.encode("cp1252"), "cp1252"),
        (("Obsługa ciężarówki w języku polskim. " * 4).encode("cp1250"), "cp1250"),
        (("Повар в ресторан, опыт работы от трёх лет. " * 4).encode("cp1251"), "cp1251"),
        (GERMAN.encode() * 3 + GERMAN.encode("cp1252"), "utf-8-sig"),
    ],
)
def test_encodings_are_told_apart(tmp_path, content, encoding):
    (tmp_path / "a.txt").write_bytes(content)
    assert detect_encoding(tmp_path / "a.txt") == encoding


def test_an_encoding_is_found_behind_the_first_block(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"plain line\n" * 200_000 + GERMAN.encode("cp1252"))
    assert detect_encoding(tmp_path / "a.txt") == "cp1252"


def test_a_text_without_line_breaks_that_a_block_divides_is_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a" + "ü".encode() * 1_500_000)
    assert detect_encoding(tmp_path / "a.txt") == "utf-8-sig"


def test_binary_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ValueError, match="not text"):
        read_text(tmp_path / "a.txt")


# --- files ------------------------------------------------------------------------------------------------------------


def test_plain_html_and_rtf_files(tmp_path):
    (tmp_path / "a.txt").write_bytes("Köchin\r\nmit Zeugnis".encode("cp1252"))
    (tmp_path / "a.html").write_bytes(b"<html><body><p>Baker &amp; cook</p></body></html>")
    (tmp_path / "a.rtf").write_bytes(rb"{\rtf1\ansi\ansicpg1252 {\b Nurse} with K\'f6ln\par nine \u8364? years}")
    assert read_plain(tmp_path / "a.txt").text == "Köchin\nmit Zeugnis"
    assert read_html_file(tmp_path / "a.html").text == "Baker & cook"
    assert read_rtf(tmp_path / "a.rtf").text.split() == ["Nurse", "with", "Köln", "nine", "€", "years"]
