"""Reads a Serin catalogue with real DuckDB and prints answers as JSON.

usage: duckdb_read.py CATALOGUE SQL...
Each statement runs in one read-only session in which the catalogue is attached as `lake`.
"""

import importlib.util
import json
import pathlib
import sys

import duckdb


def connect(catalogue):
    folder = pathlib.Path(importlib.util.find_spec("duckdb_ext").origin).parent
    session = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in ("sqlite_scanner", "ducklake"):
        (found,) = folder.glob(f"extensions/*/*/{name}.duckdb_extension")
        session.execute(f"LOAD '{found}'")
    session.execute("SET TimeZone = 'UTC'")
    quoted = catalogue.replace("'", "''")
    session.execute(f"ATTACH 'ducklake:sqlite:{quoted}' AS lake (READ_ONLY)")
    session.execute("USE lake")
    return session


def main():
    catalogue, *statements = sys.argv[1:]
    session = connect(catalogue)
    answers = [session.execute(statement).fetchall() for statement in statements]
    print(json.dumps(answers, default=str))


main()
