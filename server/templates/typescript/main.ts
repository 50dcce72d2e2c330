/** Starts the service %NAME%. */

import { app } from "./app.ts";

app.run();
