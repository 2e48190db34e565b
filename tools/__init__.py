"""Scripts that make committed files: reference pages and judgments. Nothing in the rooms imports them."""
