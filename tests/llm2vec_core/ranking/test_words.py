"""Words of this domain stay whole in any context."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2vec_core.ranking import word_forms
from llm2vec_core.ranking.words import places_of_words, spellings, split_words, tokenize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C", "c"),
        ("C++", "c++"),
        ("C#", "c#"),
        ("F#", "f#"),
        (".NET", ".net"),
        ("Node.js", "node.js"),
        ("R", "r"),
        ("Go", "go"),
        ("IT", "it"),
        ("CI/CD", "ci/cd"),
        ("T-SQL", "t-sql"),
        ("PL/SQL", "pl/sql"),
        ("front-end", "front-end"),
    ],
)
def test_names_of_the_domain_survive_a_sentence(text: str, expected: str) -> None:
    for sentence in (f"We use {text}.", f"({text})", f"{text}, and more", f"Skills: {text};", f"'{text}'?", text):
        assert expected in tokenize(sentence), sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C/C++/C#", ["c/c++/c#", "c", "c++", "c#"]),
        ("R/Python", ["r/python", "r", "python"]),
        ("R&D", ["r&d"]),
        ("C-level", ["c-level", "level", "clevel"]),
        ("front-end", ["front-end", "front", "end", "frontend"]),
        ("front\u2011end", ["front-end", "front", "end", "frontend"]),
        ("B.Sc.", ["b.sc", "sc", "bsc"]),
        ("M.B.A.", ["m.b.a", "mba"]),
        ("state-of-the-art", ["state-of-the-art", "state", "of", "the", "art"]),
        ("COVID-19", ["covid-19", "covid", "19"]),
        ("ASP.NET", ["asp.net", "asp", ".net", "aspnet"]),
        ("C-C++", ["c-c++", "c++"]),
        ("version 3.11.", ["version", "3.11"]),
        ("17+ years", ["17", "years"]),
        ("issue #5", ["issue", "5"]),
        ("the driver's licence", ["the", "driver", "licence"]),
        ("Wait...and see", ["wait", "and", "see"]),
        ("cafe\u0301", ["café"]),
        ("x\u0304y", ["x\u0304y"]),
        ("\u0130stanbul", ["istanbul"]),
        ("\u092a\u094d\u0930\u092c\u0902\u0927\u0915", ["\u092a\u094d\u0930\u092c\u0902\u0927\u0915"]),
        ("\u0645\u064f\u0647\u064e\u0646\u0652\u062f\u0650\u0633", ["\u0645\u0647\u0646\u062f\u0633"]),
        ("  \n-- / ..", []),
        ("熟悉Python和Kubernetes。", ["熟悉", "python", "和", "kubernetes"]),
        ("软件开发", ["软件", "件开", "开发"]),
        ("C++开发/测试", ["c++", "开发", "测试"]),
        ("書き方・データ", ["書き", "き方", "デー", "ータ"]),
        ("개발자는 C#", ["개발", "발자", "자는", "c#"]),
        ("นักพัฒนา Go", ["นัก", "กพั", "พัฒ", "ฒน", "นา", "go"]),
        ("3年", ["3", "年"]),
        ("[EMAIL_1], [BIRTH_DATE_2]!", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("engineers", "engineer"),
        ("Managing people", "manage people"),
        ("ReactJS", "React.js"),
        ("ReactJS", "React"),
        ("React.js", "react"),
        ("K8s", "Kubernetes"),
        ("RN", "registered nurse"),
        ("two RNs", "two registered nurses"),
        ("organisation", "organizations"),
        ("nursing", "nurses"),
        ("machine learning-based", "machine learning"),
        ("front-end", "frontend"),
        ("Sr. Mgr", "senior manager"),
    ],
)
def test_forms_of_a_word_and_its_other_names_are_found(one: str, other: str) -> None:
    found, wanted = set(tokenize(one)), set(tokenize(other))
    assert wanted <= found or found <= wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Java", "JavaScript"),
        ("C", "C++"),
        ("C++", "C#"),
        ("going", "Go"),
        ("excellent", "Excel"),
        ("engine", "engineer"),
        ("officers", "office"),
        ("internal", "intern"),
        ("international", "internal"),
        ("customs", "customer"),
        ("business", "busy"),
        ("university", "universal"),
        ("experiments", "experience"),
        ("organs", "organization"),
        ("windows", "window"),
        ("important", "import"),
        ("physics", "physical"),
        ("40 hr", "human resources"),
        ("5 ml", "machine learning"),
    ],
)
def test_other_words_stay_apart(one: str, other: str) -> None:
    assert not set(tokenize(one)) & set(tokenize(other))


def test_words_that_stand_for_a_stem_stand_for_themselves() -> None:
    """Otherwise two words with different stems could become one token, or a query would find only some forms."""
    for word in (*word_forms.exceptions().values(), *word_forms.base_words().values()):
        assert word_forms.base_of(word) == word
    own = [*word_forms.exceptions().values()]
    assert not set(own) & set(word_forms.base_words().values())
    names = {word for name in word_forms.aliases().values() for word in name}
    assert not names & set(word_forms.aliases()), "no alias of an alias"


@given(st.text())
def test_any_text_has_clean_tokens(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert token.split() == [token], "a column of words apart by white space must hold it"


def test_importing_the_ranking_changes_neither_environment_nor_logging() -> None:
    """Nor does it load a library of BM25 or build the table of marks before something is indexed."""
    code = (
        "import logging, os, sys, threadpoolctl; before = dict(os.environ)\n"  # it sets a variable of its own
        "import llm2vec_core.ranking.lexical, llm2vec_core.ranking.fusion, llm2vec_core.ranking.dense\n"
        "import llm2vec_core.ranking.tuning, llm2vec_core.ranking.evidence, llm2vec_core.ranking.reranking\n"
        "from llm2vec_core.ranking import words\n"
        "assert dict(os.environ) == before\n"
        "levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}\n"
        "assert not any(levels.values()) and logging.root.level == logging.WARNING, levels\n"
        "assert words.tokenize('plain text') and not words._marks.cache_info().currsize\n"
        "assert words.tokenize('caf\u00e9') and words._marks.cache_info().currsize == 1\n"
        "assert not {'rank_bm25', 'scipy', 'torch', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@given(st.text(alphabet="ab1.-/&+# 软件é", max_size=30))
def test_places_hold_the_words_of_a_text_in_their_order(text: str) -> None:
    places = places_of_words(text)
    assert sorted(word for place in places for word, _ in place) == sorted(split_words(text))
    assert all(start < end <= len(places) for start, place in enumerate(places) for _, end in place)


@given(st.lists(st.sampled_from(["RNs", "nurses", "managing", "React.js", "AI", "front-end", "C++"]), max_size=8))
def test_a_token_is_spelled_as_a_word_of_the_text(words: list[str]) -> None:
    text = " ".join(words)
    found = spellings(text, set(tokenize(text)))
    assert found.keys() == set(tokenize(text))
    for token, word in found.items():
        assert token in tokenize(word) and word in split_words(text)
    assert spellings(text, {"absent"}) == {}
