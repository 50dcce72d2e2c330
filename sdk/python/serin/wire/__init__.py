"""What travels on the bus, and nothing else: subjects, batches, headers, routes, chains.

The same shapes as the Rust crate ``serin-wire``. Values in, values out: no IO, no clock.
"""
