"""The types of evaluation tasks.

Belongs here: names that everything about tasks shares. Does not belong here: what the files of a type hold
(``layouts``), how a type is scored (``protocols.registry``).
"""

from __future__ import annotations

from typing import Literal, get_args

_TextTaskType = Literal[
    "Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS", "Summarization"
]
EvalTaskType = _TextTaskType | Literal["TokenClassification"]
EVAL_TASK_TYPES: tuple[EvalTaskType, ...] = get_args(_TextTaskType)
"""The seven categories of tasks about whole texts, in the order of Table 1 of the LLM2Vec paper."""
WORD_TASK_TYPE: EvalTaskType = "TokenClassification"
"""The type of tasks about words (chunking, parts of speech, entities); it counts into none of the seven categories."""
