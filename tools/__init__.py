"""Scripts that make committed files: reference pages and judgments. No package imports them."""
