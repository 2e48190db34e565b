"""The bundled sample: jobs, resumes, judgments and evaluation tasks made from ESCO data.

Its files are in ``files/``.
"""
