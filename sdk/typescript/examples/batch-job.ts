/** A job that only emits: the end of the process waits until its events are on the bus's disk. */

import { connect } from "serin-sdk";

const app = connect();
for (let row = 0; row < 1000; row++) app.emit("row.read", { row });
