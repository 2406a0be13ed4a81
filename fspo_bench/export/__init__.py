"""Tasks in the files of other tools."""
