"""The bundled sample: jobs, resumes, judgments and evaluation tasks made from ESCO facts.

Its files lie in ``files/``.
"""
