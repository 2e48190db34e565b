"""Headings of resumes and job postings, by kind of section.

An encoder that reads long texts by sections splits them at these headings. Stored vectors depend on the patterns:
changing one means encoding everything again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SECTION_HEADINGS: Mapping[str, str] = MappingProxyType(
    {
        "summary": r"(?:(?:professional|career|executive) )?(?:summary|profile|overview)|(?:career )?objective"
        r"|about (?:me|you)|(?:job|role) (?:summary|purpose|overview)|about the (?:job|role)",
        "skills": r"(?:(?:core|key|technical|professional|other) )?(?:skills|competenc(?:ies|es))|skills (?:and|&) \w+"
        r"|highlights|(?:person|essential) (?:specification|criteria)|requirements|what you(?: will|'ll) need",
        "experience": r"(?:(?:work|professional|relevant|employment) )?(?:experience|history)|employment"
        r"|career history|(?:main |key )?(?:duties|responsibilities|tasks)(?: and responsibilities)?"
        r"|what you(?: will|'ll) do",
        "education": r"education(?: (?:and|&) \w+)?|academic (?:background|qualifications)"
        r"|(?:essential )?qualifications|certifications?",
    }
)
"""Regular expressions for the names of headings; ``llm2vec_core.encoding.chunking.heading_pattern`` joins them."""
