"""Conditions of jobs and resumes beside the scores: who meets them, who does not, and what nobody can tell."""
