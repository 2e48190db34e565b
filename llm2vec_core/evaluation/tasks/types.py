"""The types of evaluation tasks."""

from __future__ import annotations

from typing import Literal, get_args

_MtebTaskType = Literal[
    "Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS", "Summarization"
]
_TextTaskType = Literal[_MtebTaskType]
EvalTaskType = _TextTaskType | Literal["TokenClassification"]
MTEB_TASK_TYPES: tuple[EvalTaskType, ...] = get_args(_MtebTaskType)
"""The seven categories that mteb scores, in the order of Table 1 of the LLM2Vec paper."""
EVAL_TASK_TYPES: tuple[EvalTaskType, ...] = get_args(_TextTaskType)
"""The categories of tasks about whole texts: mteb's seven, then others."""
WORD_TASK_TYPE: EvalTaskType = "TokenClassification"
"""The type of tasks about words (chunking, parts of speech, entities); it is not one of the seven categories."""
