"""The configuration: one TOML file, overridden by GLMBOT_SECTION__KEY in the environment.

A section per part, and one per adapter, whose settings model the adapter itself brings. Unknown keys are
refused with the nearest name. Secrets come from the environment or from files, and are typed as secrets.

`models`, `people` and `operation` hold the sections, `configuration` all of them together. `load` reads them from
the `file` and the `environment`, and those whose names the operator chooses with `named`; `bounds` says what no
value may be, and `complaints` and `names` how a mistake is told.
"""
