"""Previews: what a command would do, found by the code of its stages on a store that keeps all writes to itself."""
