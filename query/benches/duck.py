"""Answers each line of standard input, a statement, with: seconds, rows, sum of the last column."""

import sys
import time

import duckdb

connection = duckdb.connect()
connection.execute("SET threads = 2")
# Footers are kept between queries, as our engine does.
connection.execute("SET parquet_metadata_cache = true")
for statement in sys.stdin:
    begun = time.perf_counter()
    rows = connection.execute(statement).fetchall()
    seconds = time.perf_counter() - begun
    numbers = [row[-1] for row in rows if isinstance(row[-1], (int, float))]
    print(seconds, len(rows), float(sum(numbers)), flush=True)
