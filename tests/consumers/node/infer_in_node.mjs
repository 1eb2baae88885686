// node infer_in_node.mjs NODE_MODULES MODEL: takes the inputs as JSON from stdin, and prints the outputs.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { infer } from "./infer.js";

const [modules, model] = process.argv.slice(2);
const ort = createRequire(`${modules}/`)("onnxruntime-node");
console.log(JSON.stringify(await infer(ort, model, JSON.parse(readFileSync(0, "utf8")))));
