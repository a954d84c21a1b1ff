"""Reads the wording of released checkpoints, as a profile, out of a user's own copy of what was published.

`source` tells the two kinds apart. Code (`code`, `code_turns`) is followed through its syntax tree with marks in place
of data (`follow`), never executed; data (`data`, `records`, `endings`, `turns`) is compared record by record, and
`coverage` counts how many records the profile gives again. Both end in `templates`; `output` writes the YAML.
"""
