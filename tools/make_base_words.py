"""Make ``llm2vec_core/ranking/base_words.txt``: a word for each common stem that is no word itself.

The words are those of the sample and of ESCO's labels. For each stem, the shortest word without an inflection is taken,
and the most frequent one if there is no such word.

    python -m tools.make_base_words
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from data.sample.esco import read_skill_names
from data.sample.read import read_sample_jobs, read_sample_resumes, read_train_triples
from llm2vec_core.ranking import word_forms
from llm2vec_core.ranking.words import split_words

MIN_COUNT = 2
"""Minimum number of occurrences of a stem."""

MIN_SHARE = 0.005
"""Minimum share of a stem's occurrences that its word has."""

INFLECTED = ("s", "ed", "ing")
"""Ends of words that are taken only if a stem has no other word."""


def main() -> None:
    """Count words, and write the file."""
    rows = [*read_sample_jobs(), *read_sample_resumes(), *read_train_triples()]
    texts = [str(value) for row in rows for value in row.values()]
    texts += [name for label, names in read_skill_names().items() for name in (label, *names)]
    counts = Counter(word for text in texts for word in split_words(text) if word.isascii() and word.isalpha())
    stemmer, words_of = word_forms.stemmer(), defaultdict[str, Counter[str]](Counter)
    for word, count in counts.items():
        if word not in word_forms.exceptions():
            words_of[stemmer.stemWord(word)][word] += count
    chosen = []
    for stem, found in words_of.items():
        if len(stem) > 2 and stem not in found and found.total() >= MIN_COUNT:
            common = {word for word, count in found.items() if count >= MIN_SHARE * found.total()}
            plain = sorted(word for word in common if not word.endswith(INFLECTED))
            chosen.append(min(plain, key=len) if plain else found.most_common(1)[0][0])
    path = Path(word_forms.__file__).with_name(word_forms.BASE_WORDS)
    path.write_text("".join(f"{word}\n" for word in sorted(chosen)), encoding="utf-8")
    print(f"{len(chosen):,} words")


if __name__ == "__main__":
    main()
