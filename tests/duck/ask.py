"""Attaches a DuckLake catalogue read-only and prints the rows of a statement as JSON.

`python3 ask.py CATALOGUE SQL`; the catalogue is what `.serin/run.json` says. Knows nothing of Serin.
"""

import json
import pathlib
import sys

import duckdb
import duckdb_ext


def attach(catalogue):
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    folder = pathlib.Path(duckdb_ext.get_extension_dir())
    for file in sorted(folder.rglob("*.duckdb_extension")):
        if file.name.split(".")[0] in ("ducklake", "sqlite_scanner"):
            connection.execute(f"LOAD '{file}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"ATTACH '{catalogue}' AS lake (READ_ONLY)")
    connection.execute("USE lake.main")
    return connection


def main():
    catalogue, sql = sys.argv[1:]
    rows = attach(catalogue).execute(sql).fetchall()
    print(json.dumps(rows, default=str))


if __name__ == "__main__":
    main()
