"""Text of one document file: PDF, DOCX, ODT, RTF, HTML and plain text."""
